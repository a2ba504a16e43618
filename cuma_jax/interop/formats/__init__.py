"""The files of other programs: the official CuMA format and PEFT's, read and written."""
