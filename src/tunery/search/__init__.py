"""Searches with Optuna: the space of a project, the study, its workers, and how it ends."""
