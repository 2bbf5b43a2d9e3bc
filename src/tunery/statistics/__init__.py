"""Errors, paired tests and ranks over arrays of items: pure, without torch or MLflow."""
