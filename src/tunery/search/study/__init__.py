"""A study in Optuna's storage: its definition, its queue of trials, its progress."""
