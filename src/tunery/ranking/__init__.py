"""Records -> statistics, tables, plots, report. Pure."""
