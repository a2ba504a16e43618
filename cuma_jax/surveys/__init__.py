"""Surveys: questions, respondents and answers; their profiles, splits, cells and prompts; and what reads them."""
