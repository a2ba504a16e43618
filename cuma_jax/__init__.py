"""CuMA in JAX: a frozen language model, LoRA experts, and a router that sees the text and who is asking."""

__version__ = "0.1.0"
