"""Whether a run fits a machine that is not here, and how fast it could be: by arithmetic, and by compiling it."""
