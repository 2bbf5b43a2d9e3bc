"""lm-eval's result files, of every version and backend."""
