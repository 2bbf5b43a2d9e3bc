"""A base in one GGUF file, as llama.cpp, Ollama and LM Studio keep it.

transformers reads such files, but quantises none while it reads, and needs minutes for a large vocabulary. So each part
(config, tokenizer, weights) is written once, in transformers' own format, to the Hub's cache folder; everything else
reads it there.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunery.errors import BaseModelError, Fault, OutOfMemory, StorageError, TuneryError, first_line
from tunery.models.gguf import checks
from tunery.models.libraries import quiet_libraries

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import torch

SUFFIX = ".gguf"
_ADVICE = "Name a folder or a hub id with the model's safetensors instead."


@dataclass(frozen=True)
class GgufFile:
    """One file. Its parts are folders that transformers reads like any other model's."""

    model: str  # as the project names it
    path: Path

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the whole file, which is the base's revision, in hex."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """What the file says about itself; of long lists their length alone."""
        from transformers.integrations.gguf import read_gguf_metadata

        with self._readable():
            return dict(read_gguf_metadata(str(self.path))[0])

    @property
    def license(self) -> str | None:
        """As the file names it."""
        named = self.metadata.get("general.license")
        return str(named) if named else None

    @property
    def stored_as(self) -> str:
        """How the weights are stored, such as Q4_K_M; GGUF if the file does not say."""
        from gguf import LlamaFileType

        try:
            return str(LlamaFileType(self.metadata.get("general.file_type")).name).removeprefix("MOSTLY_")
        except ValueError:
            return "GGUF"

    def config(self) -> Path:
        """A folder with config.json; no weight and no token is read.

        Raises:
            BaseModelError: If it is no whole model, or transformers cannot read its architecture, or leaves out a
                setting that decides the model's answers.
            StorageError: If the cache cannot be written.
        """
        return self._part("config", self._write_config)

    def tokenizer(self) -> Path:
        """A folder with config.json, the tokenizer, the special tokens and the chat template, if the file has one.

        Raises:
            BaseModelError: If transformers would cut text into other tokens than the model was trained on.
            StorageError: If the cache cannot be written.
        """
        config = self.config()
        return self._part("tokenizer", lambda place: self._write_tokenizer(place, config))

    def weights(self, dtype: torch.dtype) -> Path:
        """A folder with config.json and the dequantised weights in this type.

        Raises:
            BaseModelError: If a weight is missing, or has no place in the model.
            OutOfMemory: If the dequantised weights do not fit.
            StorageError: If the cache cannot be written.
        """
        config = self.config()
        return self._part(str(dtype).removeprefix("torch."), lambda place: self._write_weights(place, config, dtype))

    def _part(self, name: str, write: Callable[[Path], None]) -> Path:
        """A part's folder, written by the first process that asks for it; whoever asks meanwhile waits."""
        import transformers
        from filelock import FileLock
        from huggingface_hub import cached_assets_path

        quiet_libraries()
        try:
            folder = cached_assets_path("tunery", namespace="gguf", subfolder=self.digest)
            place = folder / f"{name}-{transformers.__version__}"  # another version may read it otherwise
            if place.is_dir():
                return place
            with FileLock(f"{place}.lock"):
                if not place.is_dir():
                    self._write_whole(place, write)
        except OSError as error:
            fault = (
                f"the cache of GGUF files cannot be written ({error.strerror or error}). Free space, or set HF_HOME."
            )
            raise StorageError(self.model, fault) from error
        return place

    def _write_whole(self, place: Path, write: Callable[[Path], None]) -> None:
        partial = place.with_name(f"{place.name}.partial")  # one writer at a time: the caller holds the lock
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
        partial.mkdir()
        try:
            with self._readable():
                write(partial)
            os.replace(partial, place)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _write_config(self, place: Path) -> None:
        from transformers import AutoConfig

        checks.check_whole(self.model, self.metadata)
        config = AutoConfig.from_pretrained(self.path.parent, gguf_file=self.path.name)
        checks.settle_positions(self.model, self.path, config)
        checks.check_settings(self.model, self.metadata, config)
        config.save_pretrained(place)

    def _write_tokenizer(self, place: Path, config: Path) -> None:
        from transformers import AutoTokenizer

        shutil.copy2(config / "config.json", place)  # it says how long a text the model takes
        tokenizer = AutoTokenizer.from_pretrained(self.path.parent, gguf_file=self.path.name)
        checks.check_tokenizer(self.model, self.path, tokenizer)
        # transformers leaves it at 1e30.
        tokenizer.model_max_length = self.metadata[f"{self.metadata['general.architecture']}.context_length"]
        tokenizer.save_pretrained(place)
        checks.drop_invented_tokens(place, int(self.metadata["tokenizer.ggml.tokens"]))

    def _write_weights(self, place: Path, config: Path, dtype: torch.dtype) -> None:
        import torch
        from safetensors.torch import save_model
        from transformers import AutoModelForCausalLM, GgufConfig

        try:
            with _without_bar():
                model, report = AutoModelForCausalLM.from_pretrained(
                    self.path.parent,
                    gguf_file=self.path.name,
                    dtype=dtype,
                    quantization_config=GgufConfig(dequantize=True),
                    output_loading_info=True,
                )
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise OutOfMemory(f"dequantising {self.model}", first_line(error)) from error
        checks.check_weights(self.model, self.path, model, report)
        # Not save_pretrained, which refuses to write weights that came from a GGUF file.
        save_model(model, str(place / "model.safetensors"), metadata={"format": "pt"})
        shutil.copy2(config / "config.json", place)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (TuneryError, OSError):
            raise
        except Exception as error:  # files of others: KeyError, NotImplementedError and struct.error were seen
            reason = first_line(error).rstrip(".")[:200]
            rule = f"a GGUF file that transformers can read ({reason})"
            raise BaseModelError(self.model, Fault("base.model", rule, self.model, _ADVICE)) from error


@contextmanager
def _without_bar() -> Iterator[None]:
    """transformers draws a bar for a GGUF file's tensors whatever it was told of bars, and into log files too."""
    from transformers import modeling_gguf_pytorch_utils as utils

    drawn = utils.tqdm
    utils.tqdm = _undrawn
    try:
        yield
    finally:
        utils.tqdm = drawn


def _undrawn(tensors: Iterable[Any], **_: object) -> Iterable[Any]:
    return tensors
