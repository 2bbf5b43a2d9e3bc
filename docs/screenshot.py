"""Take the documentation's pictures: a run's pages in the MLflow UI, through headless Chromium.

python docs/screenshot.py RUN_ID --store sqlite:///mlflow.db     # of a training, study, comparison or promotion

Needs `pip install -e ".[docs]"` and `chromium`.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import mlflow
from mlflow.entities import Run
from playwright.sync_api import Browser, sync_playwright

IMAGES = Path(__file__).parent / "images"
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-sync", "--disable-background-networking"]
_CHARTS_MILLISECONDS = 8_000  # until the charts are drawn
_PATIENCE_SECONDS = 60


@click.command()
@click.argument("run_id")
@click.option("--store", default="sqlite:///mlflow.db", show_default=True, help="MLflow's backend store.")
def main(run_id: str, store: str) -> None:
    """Write to docs/images: run, curves and model; study; comparison; or registry and promotion, each a PNG."""
    run = mlflow.MlflowClient(tracking_uri=store).get_run(run_id)
    pages = _pages(run, store)
    IMAGES.mkdir(exist_ok=True)
    with _server(store) as address, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=_ARGUMENTS)
        for file, (place, height) in pages.items():
            _shoot(browser, place if "://" in place else f"{address}/{place}", IMAGES / f"{file}.png", height)


def _pages(run: Run, store: str) -> dict[str, tuple[str, int]]:
    """File -> address and height in pixels of each page."""
    page = f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    match run.data.tags["tunery.kind"]:
        case "study":
            return {"study": (page, 1900)}
        case "comparison":
            place = {"run_id": run.info.run_id, "artifact_path": "comparison.html", "tracking_uri": store}
            return {"comparison": (Path(mlflow.artifacts.download_artifacts(**place)).as_uri(), 1900)}
        case "promotion":
            model = f"#/models/{run.data.tags['tunery.promotion.model']}"
            return {"registry": (model, 1250), "promotion": (page, 1700)}
    name, version = run.data.tags["tunery.registered_version"].split("/")
    return {
        "run": (page, 1500),
        "curves": (f"{page}/model-metrics", 1100),
        "model": (f"#/models/{name}/versions/{version}", 800),
    }


@contextmanager
def _server(store: str) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--port", str(port)]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # mlflow calls uvicorn by its name
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "PATH": path}
    )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(address)
        yield address
    finally:
        process.terminate()
        process.wait()


def _wait(address: str) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=2)
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.5)
        else:
            return
    raise click.ClickException(f"the MLflow server did not answer within {_PATIENCE_SECONDS} s")


def _shoot(browser: Browser, address: str, file: Path, height: int) -> None:
    page = browser.new_page(viewport={"width": 1200, "height": height})
    page.goto(address)
    page.wait_for_timeout(_CHARTS_MILLISECONDS)
    for button in ("Close", "Show more"):  # the assistant's panel; the rest of the description
        found = page.get_by_role("button", name=button).or_(page.get_by_text(button, exact=True)).first
        if found.is_visible():
            found.click()
    charts = page.get_by_placeholder("Search metric charts")
    if charts.is_visible():
        charts.fill("train/|validation")
    page.wait_for_timeout(_CHARTS_MILLISECONDS)
    page.screenshot(path=file)
    page.close()
    click.echo(file)


if __name__ == "__main__":
    main()
