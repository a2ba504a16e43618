"""Preference data: conversations with several responses a turn, one preferred; and what is trained on of them."""
