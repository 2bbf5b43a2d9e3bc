"""A run as Markdown, a table and plots."""
