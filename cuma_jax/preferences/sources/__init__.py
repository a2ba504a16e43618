"""Where preference data come from: one module each source; `preferences.load.SOURCES` lists them."""
