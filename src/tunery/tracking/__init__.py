"""MLflow: runs, the adapter flavor, the registry, provenance. The only package that imports mlflow."""
