"""The MLflow flavor of an adapter: saved, and rebuilt exactly as it was trained."""
