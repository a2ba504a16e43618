"""Profiles as vectors: text encoders, normalising, and the table that routers read."""
