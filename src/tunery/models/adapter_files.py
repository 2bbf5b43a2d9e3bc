"""Adapter files: written whole or not at all, read back only over the base they were trained on."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tunery.errors import BaseModelError, Fault, StorageError, first_line
from tunery.models.base import LoadedBase
from tunery.models.base_changes import check_start
from tunery.models.files import read_config
from tunery.models.offload import whole
from tunery.records.runs import BaseIdentity

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# torch.save only says that its file ended too early (inline_container.cc: unexpected pos).
_FULL_DISK_WORDS = ("os error 28", "errno 28", "no space left", "pytorchstreamwriter failed", "inline_container.cc")


def save_adapter(model: Any, folder: Path) -> Path:
    """Write an adapter (or, without one, the whole model) as safetensors.

    The files are written into a folder beside and then renamed, so that what was there is never half replaced.

    Raises:
        StorageError: If the disk is full or cannot be written.
    """
    write_folder(folder, lambda place: write_model(model, place))
    return folder


def load_adapter(loaded: LoadedBase, folder: Path, *, trainable: bool = False, by_hand: bool = False) -> Any:
    """A saved adapter on the base that it belongs to: a PeftModel in eval mode.

    The base is changed in place, and `detach_adapter` gives it back, unless the adapter changes the base's own weights:
    see `base_changes`.

    Args:
        by_hand: Whether a person named this base for this adapter, which may know it by another name.

    Raises:
        BaseModelError: If files are missing or pickled, or the adapter belongs to another base.
    """
    recorded = check_adapter(folder, loaded.identity.quantization)
    _check_base_agrees(loaded.identity, folder, recorded, by_hand)
    from peft import PeftModel
    from safetensors import SafetensorError

    try:
        with whole(loaded.model, loaded.offloaded, loaded.device):
            model = PeftModel.from_pretrained(loaded.model, str(folder), is_trainable=trainable, use_safetensors=True)
    except SafetensorError as error:
        raise BaseModelError(str(folder), f"{WEIGHTS} is damaged ({first_line(error)}). Get it anew.") from error
    except (RuntimeError, ValueError, TypeError, OSError, KeyError) as error:
        detail = f"the adapter does not fit {loaded.identity.model} ({first_line(error)})."
        raise BaseModelError(str(folder), detail) from error
    return model.eval()


def write_folder(folder: Path, write: Callable[[Path], None], *, replace: bool = True) -> None:
    """Let `write` fill a new folder, then put it in the place of `folder` by renaming.

    Args:
        write: Is given a folder that is there and empty.
        replace: Whether what is at `folder` may go; else it must be new or empty, and still be so at the end.

    Raises:
        StorageError: If the disk is full or cannot be written, or `folder` is not empty and may not be replaced; what
            was at `folder` is still there.
    """
    # An empty folder is filled, not replaced: it may be a mount point, or the shell's working folder.
    inside = not replace and folder.is_dir()
    beside = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    partial = folder / f".partial-{os.getpid()}" if inside else beside
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write(partial)
        if inside:
            if any(path != partial for path in folder.iterdir()):
                raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
            for path in list(partial.iterdir()):
                path.rename(folder / path.name)
        elif replace and folder.exists():
            old = folder.with_name(f".{folder.name}.old-{os.getpid()}")
            folder.rename(old)
            partial.rename(folder)
            shutil.rmtree(old)
        else:
            partial.rename(folder)  # fails where a folder with something in it has come up
    except OSError as error:
        raise _storage_error(folder, error) from error
    except Exception as error:
        # safetensors (from Rust) and torch.save raise classes of their own, with the operating system's words in them.
        if any(words in str(error).lower() for words in _FULL_DISK_WORDS):
            raise _storage_error(folder, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from error
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_model(model: Any, place: Path) -> None:
    """Write an adapter's or a model's files into a folder that is there, as they come: see `save_adapter`."""
    if hasattr(model, "peft_config"):
        # "auto" would ask the Hub about the base's vocabulary; new rows are saved by trainable_token_indices.
        model.save_pretrained(str(place), save_embedding_layers=False)
        (place / "README.md").unlink(missing_ok=True)  # PEFT's empty card
    else:
        model.save_pretrained(str(place))


def _storage_error(folder: Path, error: OSError) -> StorageError:
    fault = f"cannot be written ({error.strerror or first_line(error)}). Check the folder's rights."
    # shutil.copytree has no number of its own, and a list of what each file met.
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or any(words in str(error).lower() for words in _FULL_DISK_WORDS):
        fault = "the disk is full; nothing was replaced. Free space, then run the same command."
    if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
        fault = "something else came there in the meantime; nothing was replaced. Name another folder."
    return StorageError(str(folder), fault)


def check_adapter(folder: Path, quantization: str) -> dict[str, Any]:
    """What an adapter's config says, after a look at its files: whether it can be put on a base that is held so.

    Args:
        quantization: base.quantization.

    Raises:
        BaseModelError: If files are missing, pickled or damaged, or the adapter cannot be loaded over such weights.
    """
    if not (folder / CONFIG).is_file():
        raise BaseModelError(str(folder), f"{CONFIG} is missing, but an adapter folder must hold it.")
    if not (folder / WEIGHTS).is_file():
        pickled = (folder / "adapter_model.bin").is_file()
        found = "adapter_model.bin, a pickle, which can run any code when it is opened" if pickled else "no weights"
        raise BaseModelError(str(folder), f"holds {found}, but must hold {WEIGHTS}. Save it with safetensors.")
    recorded = read_config(str(folder), folder, CONFIG, "Save the adapter anew.")
    if wrong := _header_fault(folder / WEIGHTS):
        raise BaseModelError(str(folder), f"{WEIGHTS} is damaged ({wrong}). Get it anew.")
    check_start(str(folder), recorded, quantization)
    return recorded


def damage(folder: Path) -> str | None:
    """What is wrong with the first damaged file of weights or settings in a folder; None if all can be opened.

    Of weights the header is read, which says how long the file must be.
    """
    for file in sorted(folder.rglob("*.safetensors")):
        if wrong := _header_fault(file):
            return f"{file.name} is damaged: {wrong}"
    try:
        for file in sorted(folder.glob("*config.json")):
            json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        return f"{file.name} is damaged: {first_line(error)}"
    return None


def _header_fault(file: Path) -> str | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="numpy"):
            return None
    except (SafetensorError, OSError) as error:
        return first_line(error)


def named_base(identity: BaseIdentity, recorded: Mapping[str, Any]) -> str | None:
    """The base that an adapter's config names, with its revision; None if that is this one, or it names none."""
    model, revision = recorded.get("base_model_name_or_path"), recorded.get("revision")
    if _knows_weights(identity, revision):
        if revision == identity.revision:
            return None
        return (
            f"{model or identity.model}{' with other weights' if model in (None, identity.model) else ''} at {revision}"
        )
    if not model or (model == identity.model and revision in (None, "main", identity.revision)):
        return None
    return f"{model} at {revision or 'an unrecorded revision'}"


def _knows_weights(identity: BaseIdentity, revision: object) -> bool:
    """Whether both revisions are hashes of weights, which say more than the name of a folder."""
    return isinstance(revision, str) and ":" in revision and ":" in identity.revision


def _check_base_agrees(identity: BaseIdentity, folder: Path, recorded: Mapping[str, Any], by_hand: bool) -> None:
    named, known = named_base(identity, recorded), _knows_weights(identity, recorded.get("revision"))
    if named is None or (by_hand and not known):
        return
    advice = "Scores on other weights would not be the adapter's."
    if not known:
        advice = "If this is that base under another name, say so: give --base.model."
    rule = f"the base that the adapter was trained on: {named}"
    raise BaseModelError(str(folder), Fault("base.model", rule, f"{identity.model} at {identity.revision}", advice))
