"""Adapters in other programs' files: the official code's format, read and written, and PEFT's, written."""
