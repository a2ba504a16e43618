"""Rows, tokens and batches: what a source becomes on its way to the model."""
