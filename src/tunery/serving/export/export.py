"""`tunery export`: a registered adapter as a folder that other tools load."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from tunery import __version__
from tunery.errors import Fault, InputError, RefError
from tunery.models.adapter_files import CONFIG, write_folder
from tunery.serving.export import vllm_rules
from tunery.serving.export.card import model_card
from tunery.serving.export.merge import MERGE_BOUND, Distance, check, merge
from tunery.serving.export.model import ExportedModel, card_facts, opened

if TYPE_CHECKING:
    from tunery.runs.observer import Observer

Form = Literal["adapter", "merged", "hub", "space"]

# MLflow's own files of a logged model; the rest is the adapter or the model, with its tokenizer.
_MLFLOW = ("MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "*input_example*", "registered_model_meta")
# By this file an earlier export is known, which --overwrite may replace: a config.json is in any model's folder.
MARK = "tunery-export.json"


@dataclass(frozen=True)
class Wish:
    """What is wanted.

    Args:
        to: adapter, merged, space, or hub: the adapter, sent to `repo`.
        out: The folder; None with hub: nothing is kept here.
        repo: owner/name on the Hub; with adapter, merged and space the folder is sent there too.
        public: Whether a new repository can be seen by everyone.
        max_distance: Most that a merged model may differ from the unmerged one, mean nats a token.
    """

    to: Form
    out: Path | None
    repo: str | None = None
    overwrite: bool = False
    public: bool = False
    max_distance: float = MERGE_BOUND
    device: str = "auto"


def export(ref: str, wish: Wish, observer: Observer, *, tracking_uri: str | None = None) -> str:
    """Write the folder, whole or not at all, and send it if that is wanted.

    Args:
        ref: models:/name@alias, models:/name/3, models:/<id> or runs:/<id>.
        wish: What is wanted.
        observer: Told what a person would want to see.
        tracking_uri: MLflow store.

    Returns:
        Where it is: the folder, or the address on the Hub.

    Raises:
        InputError: If the reference, the folder or the repository cannot be used, or the merged model drifted.
    """
    from tunery.serving.export.hub import check_repo, upload
    from tunery.tracking.store import connect

    _check(wish)
    if wish.repo is not None:
        check_repo(wish.repo)
    store = connect(tracking_uri, "export")
    with opened(ref, store) as source, _stopping_cleanly(), TemporaryDirectory(prefix="tunery-export-") as place:
        _check_source(source, wish)
        out = wish.out or Path(place) / source.project
        write_folder(out.resolve(), partial(_fill, source, wish, observer), replace=wish.overwrite and _is_export(out))
        if wish.out is not None:
            observer.step(f"written: {out}")
        _say_vllm(out, source, observer)
        if wish.repo is None:
            return str(out)
        kind: Literal["model", "space"] = "space" if wish.to == "space" else "model"
        observer.step(f"sending it to {wish.repo}")
        address = upload(out, wish.repo, kind, public=wish.public, message=f"{source.ref.ref} from tunery")
    observer.step(f"sent: {address}")
    return address


def _check(wish: Wish) -> None:
    """All that can be wrong before anything is looked up."""
    if wish.to == "hub" and wish.repo is None:
        raise InputError("--to hub", "needs a repository: --repo owner/name.")
    if wish.out is None:
        if wish.to != "hub":
            raise InputError(f"--to {wish.to}", "needs a folder: --out FOLDER.")
        return
    out = wish.out
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}", "is a file, but must be a new or empty folder.")
    if _is_free(out):
        return
    if not wish.overwrite:
        raise InputError(f"--out {out}", "the folder is not empty. Name another, or give --overwrite.")
    if (out / ".git").exists() or not _is_export(out):
        rule = f"holds something else than an earlier export (which has a {MARK}). Name another folder."
        raise InputError(f"--out {out}", rule)
    if out.resolve().is_mount():
        raise InputError(
            f"--out {out}", "is a mount point, which cannot be replaced. Empty it, or name a folder in it."
        )
    _keep_apart(out, [Path.cwd()])


def _check_source(source: ExportedModel, wish: Wish) -> None:
    """All that can be wrong before anything is loaded."""
    ref = source.ref.ref
    if wish.to == "adapter" and source.full:
        raise RefError(ref, "every weight was trained, so there is no adapter. Use --to merged.")
    if wish.to == "space" and source.facts.base.trust_remote_code:
        raise RefError(ref, "its base brings code of its own, which a Space's app does not run. Use --to merged.")
    if wish.out is not None:
        _keep_apart(wish.out, [Path(folder) for folder in (source.home, source.facts.base_folder) if folder])


def _is_free(out: Path) -> bool:
    return not out.exists() or not any(out.iterdir())


def _is_export(out: Path) -> bool:
    return (out / MARK).is_file()


def _keep_apart(out: Path, folders: Sequence[Path]) -> None:
    """Refuse to replace a folder in which the project, the base or whoever asks stands."""
    held = [folder for folder in folders if folder.resolve().is_relative_to(out.resolve())]
    if held and not _is_free(out):
        raise InputError(f"--out {out}", f"holds {held[0]}, which --overwrite would delete. Name another folder.")


def _fill(source: ExportedModel, wish: Wish, observer: Observer, place: Path) -> None:
    """Write all files into a folder that is there."""
    if wish.to == "space":
        _write_space(source, wish, observer, place)
    elif wish.to == "merged" or source.full:
        _write_merged(source, wish, observer, place)
    else:
        _write_adapter(source, wish, place)
    (place / MARK).write_text(json.dumps({"ref": source.ref.ref, "to": wish.to, "tunery": __version__}) + "\n")
    for file in place.rglob("*"):
        if file.is_file():
            file.chmod(0o644)  # safetensors writes for the owner alone, but a server runs as somebody else


def _write_adapter(source: ExportedModel, wish: Wish, place: Path) -> None:
    shutil.copytree(source.folder, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*_MLFLOW))
    faults, rank = _vllm(place)
    checks = [f"vLLM does not load it: {fault}" for fault in faults]
    card = replace(
        card_facts(source, "adapter", _title(source, wish)), checks=checks, vllm_rank=None if faults else rank
    )
    (place / "README.md").write_text(model_card(card), encoding="utf-8")


def _write_merged(source: ExportedModel, wish: Wish, observer: Observer, place: Path) -> None:
    distances = _merge_into(source, wish, observer, place)
    card = replace(
        card_facts(source, "merged", _title(source, wish)), checks=[f"{_sentence(str(entry))}." for entry in distances]
    )
    (place / "README.md").write_text(model_card(card), encoding="utf-8")


def _write_space(source: ExportedModel, wish: Wish, observer: Observer, place: Path) -> None:
    """With the adapter alone where the Hub has the base: a Space's repository is small."""
    from transformers import AutoTokenizer

    from tunery.evaluation.stopping import stop_ids
    from tunery.serving.export.space_folder import examples, write_space

    model = place / "model"
    model.mkdir()
    base = source.facts.base.model if source.on_hub and not source.full else None
    if base is None:
        _write_merged(source, wish, observer, model)
    else:
        _write_adapter(source, wish, model)
    about: dict[str, Any] = {
        "title": _title(source, wish),
        "description": f"{source.base}, fine-tuned: {source.ref.ref}.",
        "base": base,
        "revision": source.facts.base.revision if base else None,
        "template": source.facts.template,
        "stop_ids": stop_ids(None, AutoTokenizer.from_pretrained(model)),
        "max_tokens": source.facts.max_new_tokens,
        "examples": examples([row["prompt"] for row in source.run.answers]),
    }
    observer.step(f"the app offers {len(about['examples'])} held-out prompts as first questions: see space.json")
    write_space(place, about, source.facts.identity.license, base)


def _merge_into(source: ExportedModel, wish: Wish, observer: Observer, place: Path) -> Sequence[Distance]:
    """Write the whole model, say how far it is from the unmerged one, and refuse it where that is too far."""
    from tunery.models.quiet import quiet_libraries
    from tunery.serving.export.probe_prompts import real_items

    quiet_libraries()
    items = real_items(source.run, source.home)
    observer.step(f"{'rounding to' if source.full else 'merging in'} 16 bit, and comparing on {len(items)} answers")
    distances = merge(source.folder, place, items, wish.max_distance, wish.device)
    for entry in distances:
        observer.step(str(entry))
    check(distances, source.ref.ref)
    return distances


def _title(source: ExportedModel, wish: Wish) -> str:
    return wish.repo.split("/")[1] if wish.repo else source.project


def _vllm(folder: Path) -> tuple[list[Fault], int]:
    """What keeps vLLM from loading an adapter's folder, and what `--max-lora-rank` must be."""
    config, tensors = vllm_rules.read_adapter(folder)
    faults = vllm_rules.vllm_faults(config, tensors)
    return faults, 0 if faults else vllm_rules.rank_option(int(config["r"]))


def _say_vllm(folder: Path, source: ExportedModel, observer: Observer) -> None:
    if not (folder / CONFIG).is_file():
        return
    faults, rank = _vllm(folder)
    if faults:
        for fault in faults:
            observer.step(f"vLLM does not load this adapter: {fault}")
        return
    words = ["vllm", "serve", source.base if source.on_hub else "BASE", "--enable-lora", "--max-lora-rank", str(rank)]
    words += ["--lora-modules", f"{source.project}={folder}"]
    template = folder / "chat_template.jinja"
    words += ["--chat-template", str(template)] if template.is_file() else []
    observer.step(shlex.join(words))


@contextmanager
def _stopping_cleanly() -> Iterator[None]:
    """SIGTERM ends like Ctrl-C, so that what is half written is taken away."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
