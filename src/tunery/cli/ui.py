"""`tunery ui`."""

from __future__ import annotations

import os
import subprocess
import sys

import click

from tunery.cli.options import tracking_option
from tunery.errors import Fault, TrackingError


@click.command()
@click.option("--host", default="127.0.0.1", metavar="ADDRESS", help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=5000, metavar="N", help="Port to listen on.")
@tracking_option
def ui(host: str, port: int, tracking_uri: str | None) -> None:
    """Open MLflow's pages on the store that the other verbs use."""
    from tunery.tracking.redact import redact
    from tunery.tracking.store import connect, is_there, store_address

    address = store_address(tracking_uri)
    if address.startswith(("http://", "https://")):
        click.echo(
            f"The store is a server; its pages are at {redact(address).rstrip('/')}/?workflowType=machine_learning"
        )
        return
    if not is_there(address):
        advice = "Go to the folder of the runs, or set MLFLOW_TRACKING_URI or --tracking-uri."
        raise TrackingError(address, Fault("there is no store here yet", advice=advice))
    connect(address, "Default")  # what is wrong with it is said now, in a sentence
    options = ["--host", host, "--port", str(port)]
    click.echo(f"mlflow ui --backend-store-uri {redact(address)} {' '.join(options)}")
    # Its address by the environment: the list of processes shows arguments, and this one may hold a password.
    environment = {**os.environ, "MLFLOW_BACKEND_STORE_URI": address}
    try:
        ended = subprocess.run([sys.executable, "-m", "mlflow", "ui", *options], env=environment, check=False)
    except KeyboardInterrupt:
        return
    sys.exit(ended.returncode)
