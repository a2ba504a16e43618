"""A first survey.yaml and questions.yaml for a table that has none, with the reason for each line."""
