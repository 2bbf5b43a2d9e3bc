"""A registered adapter as a folder that others can use."""
