"""Text as tokens: the tokenizer of any source, its chat template, and markers that a text may not hold."""
