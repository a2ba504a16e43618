"""Where models are: hub names, folders, wheels, and the safetensors and GGUF files in them."""
