"""A page on which a model and its base answer side by side."""
