"""`tunery export`: write a trained model as a folder that other tools load."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from tunery import __version__
from tunery.errors import Fault, InputError, RefError
from tunery.models.adapter_files import CONFIG, write_folder
from tunery.promotion.gates import is_known_license
from tunery.serving.export import vllm_rules
from tunery.serving.export.card import model_card
from tunery.serving.export.hub import check_repo, examples, upload, write_space
from tunery.serving.export.merge import MERGE_BOUND, check, merge, reference_answers
from tunery.serving.export.model import ExportedModel, card_facts, opened
from tunery.training.stop import SignalHandler

if TYPE_CHECKING:
    from tunery.runs.observer import Observer

Form = Literal["adapter", "merged", "hub", "space", "dataset"]

# MLflow's own files of a logged model; the rest is the adapter or the model, with its tokenizer.
_SPACE_TOKENS = 256  # default length of an answer: on a free CPU a longer one takes minutes
_MLFLOW = ("MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "*input_example*", "registered_model_meta")
# Marks an export, which --overwrite may replace. A config.json would not do: every model's folder has one.
MARK = "tunery-export.json"


@dataclass(frozen=True)
class ExportRequest:
    """The options of `tunery export`."""

    to: Form  # adapter, merged, space, dataset, or hub: the adapter, uploaded to `repo`
    out: Path | None  # the folder; with hub, None keeps no local copy
    repo: str | None = None  # owner/name on the Hub; with adapter, merged and space the folder is uploaded too
    overwrite: bool = False  # whether an earlier export in `out` is replaced
    public: bool = False  # whether a new repository is public
    # The most that a merged model may differ from the unmerged one, in mean nats per token.
    max_distance: float = MERGE_BOUND
    device: str = "auto"  # auto, cpu, cuda or mps
    license: str | None = None  # of a dataset's rows


def export(ref: str, request: ExportRequest, observer: Observer, *, tracking_uri: str | None = None) -> str:
    """Write the folder, completely or not at all, and upload it if a repository is given.

    Args:
        ref: models:/name@alias, models:/name/3, models:/<id> or runs:/<id>; for a dataset, the folder of a project.

    Returns:
        The folder, or the address on the Hub.

    Raises:
        InputError: If the reference, the folder or the repository cannot be used, or the merged model differs too much.
    """
    from tunery.tracking.store import connect

    _check(request)
    if request.repo is not None:
        check_repo(request.repo)
    if request.to == "dataset":
        return _export_dataset(ref, request, observer)
    store = connect(tracking_uri, "export")
    with opened(ref, store) as source, _stopping_cleanly(), TemporaryDirectory(prefix="tunery-export-") as place:
        _check_source(source, request)
        out = request.out or Path(place) / source.project
        fill = partial(_fill, source, request, observer)
        write_folder(out.resolve(), fill, replace=request.overwrite and _is_export(out))
        if request.out is not None:
            observer.step(f"wrote {out.resolve()}, described in its README.md")
        _say_faults(out, observer)
        if request.repo is None:
            observer.step(f"next: {_next(out, source, request)}")
            return str(out)
        kind: Literal["model", "space"] = "space" if request.to == "space" else "model"
        observer.step(f"uploading to {request.repo}")
        address = upload(out, request.repo, kind, public=request.public, message=f"{source.ref.ref} from tunery")
    observer.step(f"uploaded to {address}")
    return address


def _export_dataset(folder: str, request: ExportRequest, observer: Observer) -> str:
    from tunery.serving.export.dataset import read_project, write_dataset

    out, license = request.out, request.license
    assert out is not None, "a folder is asked for"
    assert license is not None, "a licence is asked for"
    project, rows = read_project(folder, observer)
    _keep_apart(out, [project.folder])
    title = request.repo.split("/")[1] if request.repo else project.name

    def fill(place: Path) -> None:
        digests = write_dataset(project, rows, license, title, place)
        mark = {"ref": project.name, "to": request.to, "tunery": __version__, "sha256": digests}
        (place / MARK).write_text(json.dumps(mark) + "\n")
        open_to_all(place)
        for name, digest in digests.items():
            observer.step(f"{name}: sha256 {digest}")

    with _stopping_cleanly():
        write_folder(out.resolve(), fill, replace=request.overwrite and _is_export(out))
        held, trained = len(rows.validation_conversations), len(rows.train_conversations)
        observer.step(f"wrote {trained:,} rows to train on and {held:,} held out to {out.resolve()}, with a card")
        if request.repo is None:
            again = ["tunery", "export", folder, "--to", "dataset", "--license", license, "--out", str(out)]
            observer.step(f"next: {shlex.join([*again, '--overwrite', '--repo', 'OWNER/NAME'])}")
            return str(out)
        observer.step(f"uploading to {request.repo}")
        message = f"{project.name} from tunery"
        address = upload(out, request.repo, "dataset", public=request.public, message=message)
    observer.step(f"uploaded to {address}")
    return address


def _check(request: ExportRequest) -> None:
    """Check the options by themselves, before the model is resolved."""
    if request.to == "dataset" and not is_known_license(request.license or ""):
        rule = "needs the licence of its rows: --license cc-by-4.0, say. Without one, nobody may use them."
        raise InputError("--to dataset", rule)
    if request.license is not None and request.to != "dataset":
        raise InputError("--license", "is for --to dataset: a model's licence is its base's. Leave it out.")
    if request.to == "hub" and request.repo is None:
        raise InputError("--to hub", "needs a repository: --repo owner/name.")
    if request.out is None:
        if request.to != "hub":
            raise InputError(f"--to {request.to}", "needs a folder: --out FOLDER.")
        return
    out = request.out
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}", "is a file, but must be a new or empty folder.")
    if _is_free(out):
        return
    if not request.overwrite:
        raise InputError(f"--out {out}", "is not empty. Choose another folder, or pass --overwrite.")
    if (out / ".git").exists() or not _is_export(out):
        rule = f"holds something other than an earlier export (which has a {MARK}). Choose another folder."
        raise InputError(f"--out {out}", rule)
    if out.resolve().is_mount():
        rule = "is a mount point, which cannot be replaced. Empty it, or choose a folder inside it."
        raise InputError(f"--out {out}", rule)
    _keep_apart(out, [Path.cwd()])


def _check_source(source: ExportedModel, request: ExportRequest) -> None:
    """Check the options against the model, before its weights are loaded."""
    ref = source.ref.ref
    if request.to == "adapter" and source.full:
        raise RefError(ref, "every weight was trained, so there is no adapter. Use --to merged.")
    if request.to == "space" and source.facts.base.trust_remote_code:
        raise RefError(ref, "its base needs custom code, which a Space's app does not run. Use --to merged.")
    if request.out is not None:
        _keep_apart(request.out, [Path(folder) for folder in (source.home, source.facts.base_folder) if folder])


def _is_free(out: Path) -> bool:
    return not out.exists() or not any(out.iterdir())


def _is_export(out: Path) -> bool:
    return (out / MARK).is_file()


def _keep_apart(out: Path, folders: Sequence[Path]) -> None:
    """Refuse to replace a folder that contains the project, the base or the current directory."""
    held = [folder for folder in folders if folder.resolve().is_relative_to(out.resolve())]
    if held and not _is_free(out):
        raise InputError(f"--out {out}", f"contains {held[0]}, which --overwrite would delete. Choose another folder.")


def _fill(source: ExportedModel, request: ExportRequest, observer: Observer, place: Path) -> None:
    """Write all files into an existing folder."""
    if request.to == "space":
        _write_space(source, request, observer, place)
    elif request.to == "merged" or source.full:
        _write_merged(source, request, observer, place)
    else:
        _write_adapter(source, request, place)
    (place / MARK).write_text(json.dumps({"ref": source.ref.ref, "to": request.to, "tunery": __version__}) + "\n")
    open_to_all(place)


def open_to_all(folder: Path) -> None:
    """Let other users read a folder and all in it: a server may run as one of them.

    A copy of a temporary folder, and files that safetensors writes, are their owner's alone.
    """
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _write_adapter(source: ExportedModel, request: ExportRequest, place: Path) -> None:
    shutil.copytree(source.folder, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*_MLFLOW))
    faults, rank = _vllm(place)
    checks = [f"vLLM cannot load it: {fault}" for fault in faults]
    card = card_facts(source, "adapter", _title(source, request), checks, rank)
    (place / "README.md").write_text(model_card(card), encoding="utf-8")


def _write_merged(source: ExportedModel, request: ExportRequest, observer: Observer, place: Path) -> None:
    """Write the whole model, report how far it is from the unmerged one, and refuse it if that is too far."""
    from tunery.models.libraries import quiet_libraries

    quiet_libraries()
    answers = reference_answers(source.run, source.home)
    observer.step(f"{'rounding to' if source.full else 'merging in'} 16 bit, then comparing on {len(answers)} answers")
    distances = merge(source.folder, place, answers, request.max_distance, request.device)
    for entry in distances:
        observer.step(str(entry))
    check(distances, source.ref.ref)
    checks = [f"{str(entry)[0].upper()}{str(entry)[1:]}." for entry in distances]
    card = card_facts(source, "merged", _title(source, request), checks)
    (place / "README.md").write_text(model_card(card), encoding="utf-8")


def _write_space(source: ExportedModel, request: ExportRequest, observer: Observer, place: Path) -> None:
    """Write a Space; it holds only the adapter if the base is on the Hub, since its repository must be small."""
    from transformers import AutoTokenizer

    from tunery.evaluation.generate import stop_ids

    model = place / "model"
    model.mkdir()
    base = source.facts.base.model if source.on_hub and not source.full else None
    if base is None:
        _write_merged(source, request, observer, model)
    else:
        _write_adapter(source, request, model)
    about: dict[str, Any] = {
        "title": _title(source, request),
        "description": f"{source.base}, fine-tuned: {source.ref.ref}.",
        "base": base,
        "revision": source.facts.base.revision if base else None,
        "template": source.facts.template,
        "stop_ids": stop_ids(None, AutoTokenizer.from_pretrained(model)),
        "max_tokens": _SPACE_TOKENS,
        "examples": examples([row["prompt"] for row in source.run.answers]),
    }
    observer.step(f"the app offers {len(about['examples'])} held-out prompts as examples; edit them in space.json")
    write_space(place, about, source.facts.identity.license, base)


def _title(source: ExportedModel, request: ExportRequest) -> str:
    return request.repo.split("/")[1] if request.repo else source.project


def _vllm(folder: Path) -> tuple[list[Fault], int | None]:
    """What keeps vLLM from loading an adapter's folder, or else the `--max-lora-rank` that it needs."""
    config, tensors = vllm_rules.read_adapter(folder)
    faults = vllm_rules.vllm_faults(config, tensors)
    return faults, None if faults else vllm_rules.rank_option(int(config["r"]))


def _say_faults(folder: Path, observer: Observer) -> None:
    for fault in _vllm(folder)[0] if (folder / CONFIG).is_file() else ():
        observer.step(f"vLLM cannot load this adapter: {fault}")


def _next(folder: Path, source: ExportedModel, request: ExportRequest) -> str:
    """The command that serves an export, or puts it where others can use it."""
    again = ["tunery", "export", source.ref.ref, "--out", str(folder), "--overwrite"]
    if request.to == "space":
        return shlex.join([*again, "--to", "space", "--repo", "OWNER/NAME"])
    if not (folder / CONFIG).is_file():
        return shlex.join(["vllm", "serve", str(folder)])
    faults, rank = _vllm(folder)
    if faults:
        return shlex.join([*again, "--to", "merged"])
    words = ["vllm", "serve", source.base if source.on_hub else "BASE", "--enable-lora", "--max-lora-rank", str(rank)]
    words += ["--lora-modules", f"{source.project}={folder}"]
    template = folder / "chat_template.jinja"
    return shlex.join([*words, *(["--chat-template", str(template)] if template.is_file() else [])])


def _stopping_cleanly() -> SignalHandler:
    """Handle SIGTERM like Ctrl-C, so that a half-written folder is removed."""

    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    return SignalHandler(interrupt, ["SIGTERM"])
