"""Profile fields that are more than a text: numbers, and what a table says of a value."""
