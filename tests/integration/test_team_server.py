"""An MLflow server for a team, started as the documentation says and asked by its name."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pytest
import requests

from tests.integration.servers import free_port, process, wait_until_it_answers

ROOT = Path(__file__).parents[2]
PAGES = ["docs/guides/team-server.md", "docs/guides/clusters.md", "deploy/slurm/README.md"]
SEARCH = "api/2.0/mlflow/experiments/search"


@dataclass(frozen=True)
class Server:
    """A server on this machine, which answers to some names."""

    port: int

    def ask(self, host: str, *, address: str = "127.0.0.1", origin: str | None = None) -> int:
        """The status of a search that asks for `host`, as a browser on the page `origin` sends it."""
        headers = {
            "Host": f"{host}:{self.port}",
            **({} if origin is None else {"Origin": f"http://{origin}:{self.port}"}),
        }
        address = f"http://{address}:{self.port}/{SEARCH}"
        return requests.post(address, headers=headers, json={"max_results": 1}, timeout=60).status_code


@contextmanager
def started(folder: Path, words: Sequence[str], port: int) -> Iterator[Server]:
    with process(["-m", *words, "--workers", "1"], folder / "server.log", {}) as server:
        wait_until_it_answers(server, f"http://127.0.0.1:{port}/health", folder / "server.log")
        yield Server(port)


def documented(page: str) -> list[str]:
    """The words of the page's `mlflow server` command."""
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    (command,) = re.findall(r"^ *(mlflow server .*)$", text, re.MULTILINE)
    return shlex.split(command)


@pytest.fixture(scope="module")
def by_default(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder, port = tmp_path_factory.mktemp("default"), free_port()
    words = ["mlflow", "server", "--port", str(port), "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    with started(folder, words, port) as server:
        yield server


@pytest.fixture(scope="module")
def for_a_team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The documented command, with a free port and stores of its own."""
    folder, port = tmp_path_factory.mktemp("team"), free_port()
    words = [word.replace("5000", str(port)) for word in documented(PAGES[0])]
    words[words.index("--backend-store-uri") + 1] = f"sqlite:///{folder}/mlflow.db"
    words[words.index("--artifacts-destination") + 1] = str(folder / "artifacts")
    with started(folder, words, port) as server:
        yield server


@pytest.mark.parametrize("page", PAGES[1:])
def test_every_page_starts_the_same_server(page: str) -> None:
    def network(words: list[str]) -> list[str]:
        return words[: words.index("--backend-store-uri")]

    assert network(documented(page)) == network(documented(PAGES[0]))


def test_a_server_by_default_refuses_other_machines_and_names(by_default: Server) -> None:
    with pytest.raises(requests.ConnectionError):
        by_default.ask("localhost", address="127.0.0.2")  # an interface that it does not listen on
    assert by_default.ask("login1") == 403
    assert by_default.ask("10.0.0.5") == 200
    assert by_default.ask("10.0.0.5", origin="10.0.0.5") == 403  # the browser of whoever opens its page


def test_a_server_for_a_team_answers_to_its_name(for_a_team: Server) -> None:
    assert for_a_team.ask("login1", address="127.0.0.2") == 200
    assert for_a_team.ask("login1", origin="login1") == 200
    assert for_a_team.ask("localhost", origin="localhost") == 200
    assert for_a_team.ask("elsewhere") == 403
    assert for_a_team.ask("login1", origin="elsewhere") == 403


def test_a_client_works_with_the_server_by_its_name(
    for_a_team: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", knows_login1(socket.getaddrinfo))
    client = mlflow.MlflowClient(tracking_uri=f"http://login1:{for_a_team.port}")
    run = client.create_run(client.create_experiment("shared"))
    (tmp_path / "report.md").write_text("# Report")
    client.log_artifact(run.info.run_id, str(tmp_path / "report.md"))
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["report.md"]


def knows_login1(resolve: Callable[..., Any]) -> Callable[..., Any]:
    """As a line of /etc/hosts: login1 is this machine."""

    def resolved(host: Any, *rest: Any, **options: Any) -> Any:
        return resolve("127.0.0.1" if host in ("login1", b"login1") else host, *rest, **options)

    return resolved


def test_the_script_for_slurm_says_how_to_start_one() -> None:
    script = ["bash", str(ROOT / "deploy" / "slurm" / "tune.sbatch"), ".", "postgresql://login1/mine"]
    done = subprocess.run(
        script, env={**os.environ, "MLFLOW_TRACKING_URI": ""}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert f"--host 0.0.0.0 --allowed-hosts {socket.gethostname()}:5000," in done.stderr
