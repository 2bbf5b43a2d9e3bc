"""Take the documentation's picture of the chat page: two questions and a vote, through headless Chromium.

python docs/screenshot_chat.py models:/quickstart/1 --store sqlite:///mlflow.db

Needs `pip install -e ".[docs,chat]"` and `chromium`. The vote goes into a copy of the store.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from playwright.sync_api import Page, sync_playwright

IMAGE = Path(__file__).parent / "images" / "chat.png"
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-sync", "--disable-background-networking"]
# Of the quickstart's world, about people it was never trained on.
_QUESTIONS = ("Which instrument does Rufinn Marsh play?", "Which instrument does Mulis Tern play?")
_RIGHT = "jaw harp"
_PATIENCE_SECONDS = 120


@click.command()
@click.argument("ref")
@click.option("--store", default="sqlite:///mlflow.db", show_default=True, help="MLflow's store.")
@click.option("--width", default=1200, show_default=True, help="Of the window, in pixels.")
@click.option("--out", default=IMAGE, type=click.Path(path_type=Path), show_default=True)
def main(ref: str, store: str, width: int, out: Path) -> None:
    """Write docs/images/chat.png."""
    with _page(ref, store) as address, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=_ARGUMENTS)
        page = browser.new_page(viewport={"width": width, "height": 780})
        page.goto(address)
        for question in _QUESTIONS:
            _ask(page, question)
        better = next((s for s in ("left", "right") if _RIGHT in page.inner_text(f"#{s}")), "left")
        page.click(f"#vote-{better}")
        page.wait_for_selector("#note:has-text('the tuned model is')")
        page.mouse.move(0, 0)
        page.wait_for_timeout(500)
        page.screenshot(path=out)
    click.echo(out)


def _ask(page: Page, question: str) -> None:
    page.wait_for_selector("#send:visible")
    page.fill("#question textarea", question)
    page.click("#send")
    page.wait_for_function(
        "text => document.querySelector('#left').innerText.includes(text)"
        " && !document.querySelector('#vote-left').disabled",
        arg=question,
    )


@contextmanager
def _page(ref: str, store: str) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as place:
        command = [
            sys.executable,
            "-m",
            "tunery",
            "chat",
            ref,
            "--port",
            str(port),
            "--tracking-uri",
            _copy(store, place),
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=dict(os.environ))
        try:
            _wait(f"http://127.0.0.1:{port}/", process)
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.terminate()
            process.wait()


def _copy(store: str, place: str) -> str:
    """A database of its own: a picture is no vote."""
    if not store.startswith("sqlite:///"):
        return store
    shutil.copy2(store.removeprefix("sqlite:///"), f"{place}/mlflow.db")
    return f"sqlite:///{place}/mlflow.db"


def _wait(address: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=2)
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.5)
        else:
            return
    raise click.ClickException("the page did not answer")


if __name__ == "__main__":
    main()
