"""Gates: whether a candidate may become the champion, and why. Pure: no MLflow, no torch, no clock."""
