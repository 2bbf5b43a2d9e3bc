"""What must hold of every pretrained model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.integration.conftest import Place
from tests.real.beside import said

_UNITS = {"k": 10**3, "M": 10**6, "B": 10**9}


def assert_weights_are_counted(place: Place, folder: Path) -> None:
    """An estimate, made from the config alone, names as many weights as the loaded base has, tied ones once."""
    from transformers import AutoModelForCausalLM

    number, unit = re.findall(r"([\d.]+) ([kMB]) weights", said(place.tunery("estimate", "--project", ".")))[0]
    counted = AutoModelForCausalLM.from_pretrained(folder).num_parameters()
    assert float(number) * _UNITS[unit] == pytest.approx(counted, abs=0.005 * _UNITS[unit])
