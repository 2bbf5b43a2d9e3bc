"""One run from its project to its report: train, evaluate, and a study's trial."""
