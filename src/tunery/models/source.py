"""Finding a base model: shipped in the package, in a local folder, or on the Hugging Face Hub."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunery.config.fields import nearest
from tunery.config.model import BaseConfig
from tunery.errors import BaseModelError, Fault
from tunery.models.files import check_names, check_remote_code, check_stored_bits, content_hash, license_of, read_config
from tunery.models.gguf.file import SUFFIX, GgufFile

BUILTIN = "builtin:"
STAND_IN = "stand-in"  # the folder that a project's smoke.yaml takes for a base; projects/stand_in.py makes it
_PACKAGE = Path(__file__).parent
_RULE = "a folder that holds a model, a .gguf file, a hub id (owner/name), or builtin:tiny"
_WEIGHTS = "*.safetensors"
_WANTED = [_WEIGHTS, "*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "README.md"]


@dataclass(frozen=True)
class BaseFiles:
    """A base whose files are in `folder`; `revision` is a commit or a hash of the folder's files, or of the file."""

    model: str
    folder: Path  # of a GGUF file, its tokenizer
    revision: str
    license: str | None
    gguf: GgufFile | None = None  # where the weights come from, if not from the folder


def find_base(base: BaseConfig, folder: Path) -> BaseFiles:
    """The files of a base, downloaded if they must be, and checked before anything is loaded.

    A local model is looked for in `folder`, that of project.yaml, then in the working folder.

    Raises:
        BaseModelError: If it is not there, has no tokenizer, only pickled weights, or needs code that is not allowed.
    """
    file = local_gguf(base.model, folder)
    if file is not None:
        return BaseFiles(base.model, file.tokenizer(), f"sha256:{file.digest}", file.license, file)
    local = local_folder(base.model, folder)
    if local is not None:
        _check_folder(base, local)
        return BaseFiles(base.model, local, content_hash(local), license_of(local))
    commit = check_hub(base)
    snapshot = _download(base, commit)
    _check_folder(base, snapshot)
    return BaseFiles(base.model, snapshot, commit or snapshot.name, license_of(snapshot))


def tokenizer_folder(base: BaseConfig, folder: Path) -> Path:
    """Where a base's tokenizer is; of a hub model no weights are downloaded, and a folder's are not hashed.

    Raises:
        BaseModelError: As `find_base`.
    """
    file = local_gguf(base.model, folder)
    if file is not None:
        return file.tokenizer()
    local = local_folder(base.model, folder)
    if local is not None:
        _check_folder(base, local)
        return local
    return _download(base, check_hub(base), weights=False)


def check_base(base: BaseConfig, folder: Path) -> None:
    """Whether the base can be loaded, without loading it or downloading its weights.

    Raises:
        BaseModelError: As `find_base`.
    """
    file, local = local_gguf(base.model, folder), local_folder(base.model, folder)
    if file is not None:
        file.config()
    elif local is not None:
        _check_folder(base, local)
    elif check_hub(base) is None:
        _check_folder(base, _download(base, None))


def local_gguf(model: str, folder: Path) -> GgufFile | None:
    """The GGUF file that a base's name means; None if it is none, or not there."""
    named = os.path.expanduser(model)
    for place in (folder / model, Path.cwd() / model, named):
        if model.lower().endswith(SUFFIX) and os.path.isfile(place):
            return GgufFile(model, Path(place).resolve())
    return None


def local_folder(model: str, folder: Path) -> Path | None:
    """The folder that a base's name means; None where it is a GGUF file, or can only be a hub id.

    Raises:
        BaseModelError: If it is written as a path or is a stand-in, and is not there.
    """
    if model.startswith(BUILTIN):
        return _builtin(model)
    # os.path, not Path: its methods raise for an unknown user and for a name longer than the file system allows.
    named = os.path.expanduser(model)
    for place in (folder / model, Path.cwd() / model, named):
        if os.path.isdir(place):
            return Path(place).resolve()
    if local_gguf(model, folder) is not None:
        return None
    path_like = model.startswith((".", "/", "~")) or model.lower().endswith(SUFFIX) or model.count("/") > 1
    if path_like or os.path.isfile(named):
        advice = f"Looked in {folder} and the working folder."
        raise BaseModelError(model, Fault("base.model", _RULE, model, advice))
    if model == STAND_IN:
        raise _not_made(folder)
    return None


def _not_made(folder: Path) -> BaseModelError:
    script, project = (os.path.relpath(place) for place in (folder.parent / "stand_in.py", folder))
    rule = "a folder beside project.yaml, which has to be made first"
    return BaseModelError(STAND_IN, Fault("base.model", rule, STAND_IN, f"Make it: python {script} {project}"))


def is_local_base(place: Path) -> bool:
    """Whether a base can be there: in a folder or a GGUF file."""
    return place.is_dir() or (place.suffix.lower() == SUFFIX and place.is_file())


def _builtin(model: str) -> Path:
    known = sorted(f"{BUILTIN}{path.parent.name}" for path in _PACKAGE.glob("*/config.json"))
    place = _PACKAGE / model.removeprefix(BUILTIN)
    if model in known:
        return place
    rule = f"one of the built-in models: {', '.join(known) or 'none is installed'}"
    raise BaseModelError(model, Fault("base.model", rule, model, nearest(model, known)))


def _check_folder(base: BaseConfig, folder: Path) -> None:
    check_names(base.model, {path.name for path in folder.iterdir() if path.is_file()})
    config = read_config(base.model, folder)
    check_remote_code(base.model, config, base.trust_remote_code)
    check_stored_bits(base.model, config, base.quantization)


def check_hub(base: BaseConfig) -> str | None:
    """The commit that base.revision means now, after a look at the file names; None when the hub cannot be reached."""
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

    try:
        info = HfApi().model_info(base.model, revision=base.revision)
    except HFValidationError as error:
        raise BaseModelError(base.model, Fault("base.model", _RULE, base.model)) from error
    except (OfflineModeIsEnabled, httpx2.TransportError):
        return None
    except httpx2.HTTPError as error:
        raise _refused(base, error) from error
    check_names(base.model, {sibling.rfilename for sibling in info.siblings or []})
    check_remote_code(base.model, info.config or {}, base.trust_remote_code)
    assert info.sha is not None
    return str(info.sha)


def _download(base: BaseConfig, commit: str | None, *, weights: bool = True) -> Path:
    import httpx2
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    wanted = [*_WANTED, "*.py"] if base.trust_remote_code else _WANTED
    wanted = wanted if weights else [pattern for pattern in wanted if pattern != _WEIGHTS]
    try:
        found = snapshot_download(
            base.model, revision=commit or base.revision, local_files_only=commit is None, allow_patterns=wanted
        )
    except LocalEntryNotFoundError as error:
        rule = "in the local cache when the Hugging Face Hub cannot be reached, and it is not"
        advice = "Check the network (and HF_HUB_OFFLINE), or name a local folder or builtin:tiny."
        raise BaseModelError(base.model, Fault("base.model", rule, base.model, advice)) from error
    except httpx2.HTTPError as error:
        raise _refused(base, error) from error
    return Path(found)


def _refused(base: BaseConfig, error: Any) -> BaseModelError:
    """The hub's refusal in words; the address and headers of the request, which may carry a token, are left out."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    key, got = "base.model", base.model
    if isinstance(error, GatedRepoError):
        rule = "a model that this account may read: it is gated"
        advice = f"Accept its terms on https://huggingface.co/{base.model} and set HF_TOKEN to a token of that account."
    elif isinstance(error, RevisionNotFoundError):
        key, got = "base.revision", base.revision
        rule, advice = f"a branch, tag or commit of {base.model}", "Try main."
    elif isinstance(error, RepositoryNotFoundError):
        rule = "a model on the Hugging Face Hub, a local folder, or builtin:tiny"
        advice = "Check the spelling; if the model is private, set HF_TOKEN."
    else:
        status = getattr(getattr(error, "response", None), "status_code", "no status")
        rule = f"readable: the Hugging Face Hub answered {status}"
        advice = "With 401 or 403, set HF_TOKEN; otherwise try again later or name a local folder."
    return BaseModelError(base.model, Fault(key, rule, got, advice))
