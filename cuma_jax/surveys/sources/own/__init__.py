"""A survey of the user's own: a table of answers, and a YAML file that explains it."""
