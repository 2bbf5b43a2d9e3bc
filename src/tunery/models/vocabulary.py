"""An adapter that was trained with added tokens: the base grows to its rows, and its own tokenizer writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunery.config.model import BaseConfig
from tunery.errors import BaseModelError, TuneryError, first_line
from tunery.models.adapter_files import CONFIG, WEIGHTS
from tunery.models.base import LoadedBase
from tunery.models.chat_template import settle_template
from tunery.models.files import TOKENIZER_FILES

_PEFT = "base_model.model."
# Where a saved tensor holds one row a token: a replaced or grown matrix, and the update of either side.
_ROWS = {"weight": 0, "base_layer.weight": 0, "lora_B.weight": 0, "lora_embedding_A": 1}


def fit_vocabulary(loaded: LoadedBase, folder: Path, base: BaseConfig, home: Path, chat: bool) -> LoadedBase:
    """The base with the rows and the tokenizer that an adapter was trained with; as it is if those are its own.

    Args:
        loaded: The base, which is changed in place where it does not fit.
        folder: The adapter's.
        base: The section `base`.
        home: Folder that base.chat_template starts from.
        chat: Whether conversations need a chat template.

    Raises:
        BaseModelError: If the adapter has other rows than the base, and no tokenizer that says which tokens they are.
    """
    there = int(loaded.model.get_input_embeddings().weight.shape[0])
    rows = max(_rows(loaded.model, folder), default=there)
    tokenizer = _tokenizer(folder)
    added = [] if tokenizer is None else sorted(set(tokenizer.get_vocab()) - set(loaded.tokenizer.get_vocab()))
    if rows == there and not added:
        return loaded
    found = f"its embeddings have {rows} rows, those of {loaded.identity.model} {there}"
    if tokenizer is None:
        advice = "Copy the tokenizer that it was trained with into this folder."
        raise BaseModelError(str(folder), f"{found}: it was trained with other tokens. {advice}")
    settle_template(loaded.model, tokenizer, base, home, chat)
    if len(tokenizer) > rows:
        advice = "Copy the tokenizer that it was trained with; without a chat template, add --data.template plain."
        raise BaseModelError(str(folder), f"{found}, but its tokenizer has {len(tokenizer)} tokens. {advice}")
    loaded.model.resize_token_embeddings(rows, mean_resizing=False)
    loaded.model.requires_grad_(False).eval()
    note = f"the adapter's tokenizer is used: {len(added)} added tokens, {rows} embedding rows ({there} in the base)"
    return replace(loaded, tokenizer=tokenizer, notes=(*loaded.notes, note))


def _rows(model: Any, folder: Path) -> Iterator[int]:
    """Rows that the adapter's weights need in the base's input and output embeddings."""
    from safetensors import safe_open

    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    names = {name for name, module in model.named_modules() if any(module is end for end in ends)}
    with safe_open(folder / WEIGHTS, framework="numpy") as file:
        for key in file.keys():  # noqa: SIM118 (no mapping)
            for name in names:
                axis = _ROWS.get(key.removeprefix(f"{_PEFT}{name}."))
                if axis is not None:
                    yield int(file.get_slice(key).get_shape()[axis])
    indices = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("trainable_token_indices") or {}
    listed = indices.values() if isinstance(indices, dict) else [indices]
    yield from (max(max(some) + 1, int(ends[0].weight.shape[0])) for some in listed if some)


def _tokenizer(folder: Path) -> Any | None:
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        return None
    try:
        return AutoTokenizer.from_pretrained(folder)
    except TuneryError:  # a signal's Interrupted may come at any line
        raise
    except Exception as error:  # files of others, as in `load_base`
        raise BaseModelError(str(folder), f"its tokenizer cannot be loaded ({first_line(error)}).") from error
