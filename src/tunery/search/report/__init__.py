"""A study as a report, tables and plots."""
