"""The stages of a chain on the same held-out people."""
