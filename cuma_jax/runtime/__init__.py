"""What every other room stands on: errors, files and memory, JAX's setup, processes, the mesh."""
