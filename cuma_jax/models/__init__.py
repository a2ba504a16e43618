"""The language model: its families, layers, adapters, routers, key/value cache and frozen weights."""
