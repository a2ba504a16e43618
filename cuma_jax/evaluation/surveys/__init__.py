"""A model's answer distributions against those of a survey's held-out answers: predict, score, write."""
