"""A run as files of other programs: the official CuMA format, or PEFT adapters and how exact they are."""
