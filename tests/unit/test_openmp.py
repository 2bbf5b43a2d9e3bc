"""Threads wait briefly, unless the user says how."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tunery.openmp import wait_briefly


@pytest.mark.parametrize("own", [{"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "7"}])
def test_what_the_user_has_set_stays(own: dict[str, str]) -> None:
    environment = dict(own)
    wait_briefly(environment)
    assert environment == own


def test_otherwise_the_spinning_is_bounded() -> None:
    environment: dict[str, str] = {}
    wait_briefly(environment)
    assert environment == {"GOMP_SPINCOUNT": "1000"}


def test_the_command_line_sets_it_before_torch_is_there() -> None:
    code = (
        "import os, sys; from tunery.cli import main\n"
        "try: main(['--version'])\nexcept SystemExit: pass\n"
        "print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    )
    environment = {"PATH": "/usr/bin:/bin"}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1] == "1000 False"
