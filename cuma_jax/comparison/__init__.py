"""Runs variants side by side, with several seeds, and reports paired differences with intervals."""
