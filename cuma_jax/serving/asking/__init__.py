"""From a group and a question to a predicted distribution, beside what is known of the cell."""
