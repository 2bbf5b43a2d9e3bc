"""Where a page of MLflow's is: as a link inside its own pages, and for somebody at a terminal."""

from __future__ import annotations

from urllib.parse import quote

from tunery.tracking.redact import redact
from tunery.tracking.store import Store

# Without it, MLflow 3.17 opens a run's page among the views for applications that call a model.
_TRAINING_VIEWS = "?workflowType=machine_learning"


def run_link(experiment_id: str, run_id: str) -> str:
    """The address of a run's page inside MLflow's pages."""
    return f"#/experiments/{experiment_id}/runs/{run_id}{_TRAINING_VIEWS}"


def version_link(version: str) -> str:
    """The address of the page of "name/3" inside MLflow's pages."""
    name, _, number = version.rpartition("/")
    return f"#/models/{quote(name, safe='')}/versions/{number}{_TRAINING_VIEWS}"


def model_link(name: str) -> str:
    """The address of the page of a registered model inside MLflow's pages."""
    return f"#/models/{quote(name, safe='')}{_TRAINING_VIEWS}"


def where_kept(store: Store, experiment_id: str, run_id: str) -> str:
    """One line that leads a person to a run: its page at a server, or the command that opens a database and the page.

    its page: http://host:5000/#/experiments/1/runs/ab?workflowType=machine_learning
    its page: mlflow ui --backend-store-uri sqlite:////home/me/mlflow.db, then
        http://127.0.0.1:5000/#/experiments/1/runs/ab?workflowType=machine_learning
    """
    return where_shown(store, run_link(experiment_id, run_id))


def where_shown(store: Store, page: str) -> str:
    """The same of any page, by its address inside MLflow's pages."""
    address = redact(store.uri)
    if address.startswith(("http://", "https://")):
        return f"its page: {address.rstrip('/')}/{page}"
    return f"its page: mlflow ui --backend-store-uri {address}, then http://127.0.0.1:5000/{page}"
