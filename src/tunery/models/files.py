"""The files of a base model in a folder: which must be there, which must not, and a hash of what they hold."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from tunery.errors import BaseModelError, Fault

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
# What decides a model's answers: a card, a license or an optimizer's state beside the weights does not.
_WEIGHT_FILES = ("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json", "*.py")
_TOKEN_FILES = ("tokenizer*", "special_tokens*", "added_tokens.json", "vocab*", "merges.txt", "tekken.json", "*.model")
_HASHED = (*_WEIGHT_FILES, *_TOKEN_FILES, "*.tiktoken", "chat_template*", "*.jinja")
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def check_names(model: str, names: set[str]) -> None:
    """Refuse a base by the names of its files alone: no config, no tokenizer, no weights or only pickled ones.

    Raises:
        BaseModelError: With every fault found.
    """
    faults: list[Fault | str] = []
    if "config.json" not in names:
        rule = "a folder or repository with config.json"
        advice = "Is it a transformers model?"
        if held := sorted(name for name in names if name.lower().endswith(".gguf")):
            advice = f"It holds GGUF files: name one on this machine, as in base.model: .../{held[0]}."
        faults.append(Fault("base.model", rule, model, advice))
    if not names & {*TOKENIZER_FILES, "tokenizer_config.json"} and not any(n.endswith(".tiktoken") for n in names):
        rule = "a model with its tokenizer (tokenizer.json or tokenizer.model)"
        faults.append(Fault("base.model", rule, model, "Save the tokenizer beside the weights."))
    if not any(name.endswith(".safetensors") for name in names):
        pickled = sorted(name for name in names if name.endswith(PICKLE_SUFFIXES))
        faults.append(_weight_fault(model, pickled[0] if pickled else None))
    if faults:
        raise BaseModelError(model, faults)


def check_remote_code(model: str, config: dict[str, Any], allowed: bool) -> None:
    """Refuse a model whose config brings its own Python code, unless base.trust_remote_code allows it."""
    if config.get("auto_map") and not allowed:
        rule = "true for this model: its config names Python files (auto_map) that would run on this machine"
        advice = "Read that code first, then set base.trust_remote_code: true."
        raise BaseModelError(model, Fault("base.trust_remote_code", rule, False, advice))


def check_stored_bits(model: str, config: dict[str, Any], quantization: str) -> None:
    """Refuse a copy whose weights are stored in 4 or 8 bits if base.quantization says otherwise.

    transformers would load it as it is stored, and every record of it would name another base.
    """
    stored = config.get("quantization_config") or {}
    if not (stored.get("load_in_4bit") or stored.get("load_in_8bit")):
        return
    held = "int8" if stored.get("load_in_8bit") else str(stored.get("bnb_4bit_quant_type", "fp4"))
    if held != quantization:
        rule = f"{held} for this copy, whose weights are stored so (quantization_config in config.json)"
        advice = "Or name the model that it was made from."
        raise BaseModelError(model, Fault("base.quantization", rule, quantization, advice))


def read_config(
    where: str, folder: Path, name: str = "config.json", advice: str = "Copy the model anew."
) -> dict[str, Any]:
    """A config file as a mapping; `where` is the model or folder that messages name."""
    try:
        config = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BaseModelError(where, f"{name} cannot be read ({error}). {advice}") from error
    if not isinstance(config, dict):
        raise BaseModelError(where, f"{name} must hold a mapping. {advice}")
    return config


def positions(config: Mapping[str, Any]) -> int | None:
    """Tokens of the longest sequence that a model's config.json names, or None."""
    inner = config.get("text_config")
    for section in (config, inner if isinstance(inner, dict) else {}):
        for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
            if isinstance(section.get(name), int):
                return int(section[name])
    return None


def content_hash(folder: Path) -> str:
    """sha256 over names and contents of config, weights, tokenizer, templates and code: a folder's revision."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in _HASHED for path in folder.glob(pattern) if path.is_file()}):
        state = path.stat()
        digest.update(f"{path.name}:{_file_hash(path, state.st_size, state.st_mtime_ns)}\n".encode())
    return f"sha256:{digest.hexdigest()}"


@lru_cache(maxsize=256)
def _file_hash(path: Path, size: int, changed_ns: int) -> str:
    """sha256 of a file, read once: a start is compared with its base, and then the base is loaded."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def license_of(folder: Path) -> str | None:
    """The license that the model card's front matter names, or None."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    if not text.startswith("---"):
        return None
    try:
        front = yaml.safe_load(text.split("---", 2)[1])
    except yaml.YAMLError:
        return None  # a card is prose for people: one that does not parse must not stop a run
    named = front.get("license") if isinstance(front, dict) else None
    return str(named) if named else None


def _weight_fault(model: str, pickle: str | None) -> Fault:
    if pickle is None:
        return Fault("base.model", "a model with weights in safetensors", model, "No weights were found.")
    rule = f"a model with safetensors weights: {pickle} is a pickle, which can run any code when it is opened"
    advice = (
        "If you trust it, convert it once: AutoModelForCausalLM.from_pretrained(<model>).save_pretrained(<folder>) "
        "writes safetensors; copy the tokenizer beside them."
    )
    return Fault("base.model", rule, model, advice)


def pickled_files(folder: Path) -> list[str]:
    """Files below a folder that are pickles, by their names or by what they begin with; empty is good."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [str(path.relative_to(folder)) for path in files if _is_pickle(path)]


def _is_pickle(path: Path) -> bool:
    if path.name.endswith((*PICKLE_SUFFIXES, ".pickle", ".joblib")):
        return True
    if zipfile.is_zipfile(path):  # as torch.save writes
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".pkl") for name in archive.namelist())
    with path.open("rb") as file:
        start = file.read(9)
    # safetensors begins with its header's length, which may read as a pickle's first bytes: 640 is 80 02 00 ...
    if start[8:] == b"{" and int.from_bytes(start[:8], "little") + 8 <= path.stat().st_size:
        return False
    return len(start) > 2 and start[0] == 0x80 and start[1] in range(2, 6)  # PROTO, and a protocol's number


def first_few(names: Iterable[str], shown: int = 3) -> str:
    """Names for a message, in order of the alphabet: "a, b, c and 7 more"."""
    known = sorted(names)
    return ", ".join(known[:shown]) + (f" and {len(known) - shown} more" if len(known) > shown else "")
