"""A config made real: what does not change while it trains, its folder, and asking it about rows."""
