"""The bundle: what a finished run keeps of its data, so that it can be used without them. See `files`."""
