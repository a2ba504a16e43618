"""Metrics of distributions and replies, baselines, and the bootstrap behind every interval."""
