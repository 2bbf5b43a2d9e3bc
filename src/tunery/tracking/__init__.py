"""MLflow: runs, the adapter flavor, registry, provenance. The only package that imports mlflow."""
