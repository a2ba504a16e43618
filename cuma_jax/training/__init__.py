"""The loop: steps, optimiser, checkpoints, metrics."""
