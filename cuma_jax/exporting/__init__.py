"""From a run to adapters that other programs load."""
