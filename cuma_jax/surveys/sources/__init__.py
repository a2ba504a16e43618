"""Where surveys come from: one module, or one folder, each source; `surveys.load.SOURCES` lists them."""
