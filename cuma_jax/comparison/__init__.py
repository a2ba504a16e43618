"""Runs variants side by side and says what tells them apart."""
