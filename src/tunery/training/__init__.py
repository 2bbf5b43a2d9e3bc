"""One run's optimisation."""
