"""Frozen records that cross stages."""
