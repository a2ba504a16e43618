"""What was trained, over HTTP: `python -m cuma_jax.serve`. Needs the extra `serve`; imported by that command alone."""
