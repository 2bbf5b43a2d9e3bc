"""A base in one GGUF file: what transformers makes of it, and what it would misread."""
