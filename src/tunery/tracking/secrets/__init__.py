"""What of a text is a secret: by the name before it, by its shape, in any syntax."""
