"""Processes that run a study's trials, on this host or on a Ray cluster."""
