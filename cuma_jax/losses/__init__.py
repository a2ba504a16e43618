"""Losses as pure functions of arrays: each gives sums and counts, divided once, when they are logged."""
