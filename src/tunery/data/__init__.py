"""Rows from anywhere -> conversations -> tokens and loss masks; the data report."""
