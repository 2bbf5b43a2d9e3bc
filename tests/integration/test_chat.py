"""The chat page as a person uses it: a question typed in a browser, two answers, a vote."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

import tunery
from tests.integration.conftest import MakePlace, Place, run
from tests.integration.servers import free_port, process, wait_until_it_answers

QUESTION = "Which instrument does Mulis Tern play?"
PASSWORD = "correct horse battery"
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-sync", "--disable-background-networking"]


@pytest.fixture(scope="module")
def trained(make_place: MakePlace) -> Place:
    place = make_place("chatted")
    assert place.tunery("train", "--project", ".").code == 0
    return place


def test_a_reference_that_leads_nowhere(place: Place) -> None:
    outcome = place.tunery("chat", "models:/small@champion")
    assert outcome.code == 2, outcome.err
    assert "nothing has the alias 'champion' of 'small'" in outcome.err
    assert "Traceback" not in outcome.err


def test_without_gradio(place: Place) -> None:
    code = "import sys; sys.modules['gradio'] = None; from tunery.cli import main; main(['chat', 'models:/small/1'])"
    outcome = run([sys.executable, "-c", code], place.folder, place.environment())
    assert outcome.code == 2, outcome.err
    assert "gradio is not installed. pip install" in outcome.err
    assert "Traceback" not in outcome.err


def test_beyond_this_machine_without_a_password(place: Place) -> None:
    for words in (["--host", "0.0.0.0"], ["--share"]):
        outcome = place.tunery("chat", "models:/small/1", *words)
        assert outcome.code == 2, outcome.err
        assert "needs a password" in outcome.err


@pytest.mark.slow
def test_a_question_two_answers_and_a_vote(trained: Place) -> None:
    """In headless Chromium; the page that is served, not its functions."""
    port, log = free_port(), trained.folder / "chat.log"
    start = ["-m", "tunery", "chat", "models:/small/1", "--port", str(port)]
    with process(start, log, trained.environment(MLFLOW_TRACKING_URI=trained.uri)) as started:
        wait_until_it_answers(started, f"http://127.0.0.1:{port}/", log)
        asked: list[str] = []
        with chromium_page(f"http://127.0.0.1:{port}/", 390, asked) as page:  # as wide as a telephone
            _ask(page, QUESTION)
            sides = [page.inner_text(side) for side in ("#left", "#right")]
            assert all(QUESTION in side for side in sides)
            assert not any(word in side for side in sides for word in ("tuned", "base"))
            _ask(page, "And what do they eat?")  # a second turn
            page.click("#vote-left")
            page.wait_for_selector("#note:has-text('the tuned model is')")
            named = {page.inner_text(f"{side} label").strip() for side in ("#left", "#right")}
            assert named in ({"A: tuned", "B: base"}, {"A: base", "B: tuned"})
            assert page.is_disabled("#vote-left")  # names are known now
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert [url for url in asked if not url.startswith((f"http://127.0.0.1:{port}", "data:", "blob:"))] == []
        os.kill(started.pid, signal.SIGTERM)
        assert started.wait(timeout=30) == 0
    _check_vote(trained, named)


@pytest.mark.slow
def test_a_password_is_asked_for(trained: Place) -> None:
    port, log = free_port(), trained.folder / "password.log"
    start = ["-m", "tunery", "chat", "models:/small/1", "--host", "0.0.0.0", "--port", str(port)]
    environment = trained.environment(MLFLOW_TRACKING_URI=trained.uri, TUNERY_CHAT_PASSWORD=PASSWORD)
    address = f"http://127.0.0.1:{port}"
    with process(start, log, environment) as started:
        wait_until_it_answers(started, f"{address}/", log)
        assert requests.get(f"{address}/config", timeout=10).status_code == 401
        wrong = requests.post(f"{address}/login", data={"username": "me", "password": "wrong"}, timeout=10)
        assert wrong.status_code == 400
        visitor = requests.Session()
        right = visitor.post(f"{address}/login", data={"username": "me", "password": PASSWORD}, timeout=10)
        assert right.status_code == 200
        assert visitor.get(f"{address}/config", timeout=10).status_code == 200
    assert PASSWORD not in log.read_text()


def _ask(page: Any, question: str) -> None:
    page.wait_for_selector("#send:visible")
    page.fill("#question textarea", question)
    page.click("#send")
    page.wait_for_function(
        "text => document.querySelector('#left').innerText.includes(text)"
        " && !document.querySelector('#vote-left').disabled",
        arg=question,
    )


def _check_vote(place: Place, named: set[str]) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=place.uri)
    experiment = client.get_experiment_by_name("small-decisions")
    assert experiment is not None
    (votes,) = client.search_runs([experiment.experiment_id], "tags.`tunery.kind` = 'votes'")
    won = "A: tuned" in named
    assert votes.data.metrics == {"votes/wins": float(won), "votes/ties": 0.0, "votes/losses": float(not won)}
    assert votes.data.tags["tunery.voted_version"] == "small/1"
    assert client.get_run(votes.data.tags["tunery.voted_run"]).data.tags["tunery.kind"] == "train"
    assert votes.info.status == "FINISHED"
    table = json.loads(Path(client.download_artifacts(votes.info.run_id, "votes.json", str(place.folder))).read_text())
    (row,) = (dict(zip(table["columns"], values, strict=True)) for values in table["data"])
    assert row["choice"] == ("tuned" if won else "base")
    assert (row["prompt"], row["turns"]) == ("And what do they eat?", 2)
    assert row["base"].strip()
    assert row["tuned"].strip()
    ranked = tunery.compare("models:/small/1", record=False, tracking_uri=place.uri)
    assert list(ranked["win_rate"]) == [float(won)]


@contextmanager
def chromium_page(address: str, width: int, asked: list[str] | None = None) -> Iterator[Any]:
    """A page in headless Chromium; `asked` takes every address that it asks for."""
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.fail("no chromium: apt-get install chromium")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=found, args=_ARGUMENTS)
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.set_default_timeout(120_000)  # beside other jobs a page took more than 30 s to show
        page.on("request", lambda request: (asked if asked is not None else []).append(request.url))
        page.goto(address)
        yield page
        browser.close()
