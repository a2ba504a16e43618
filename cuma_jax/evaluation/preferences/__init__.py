"""Held-out conversations, choices and pairs of replies, and win-rates of one run against another."""
