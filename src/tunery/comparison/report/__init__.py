"""A comparison as tables, a page and plots."""
