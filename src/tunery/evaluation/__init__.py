"""lm-eval on the loaded model, generations and their text metrics."""
