"""Optuna: the space of a project, the study, its workers."""
