"""How near two texts are in meaning: BERTScore's greedy matching of token embeddings, by a model on disk."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunery.errors import Fault, TaskError

if TYPE_CHECKING:
    import torch


def semantic_f1(prediction: str, reference: str, folder: Path) -> float:
    """F1 of greedy cosine matching between the tokens of two texts; special tokens count on neither side.

    The embeddings are those of the model's last layer, without idf weights and without a baseline: values of different
    models cannot be compared, and texts that have nothing in common are seldom near 0.

    Args:
        folder: Of an encoder and its tokenizer.

    Returns:
        From -1 to 1; 0 where a text has no token.

    Raises:
        TaskError: If there is no model there.

    Source: Zhang et al., "BERTScore", arXiv:1904.09675, equations 1 to 3.
    """
    predicted, referred = _embeddings(prediction, folder), _embeddings(reference, folder)
    if not len(predicted) or not len(referred):
        return 0.0
    likeness = predicted @ referred.T
    precision, recall = float(likeness.max(dim=1).values.mean()), float(likeness.max(dim=0).values.mean())
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


@functools.lru_cache(maxsize=4096)
def _embeddings(text: str, folder: Path) -> torch.Tensor:
    """Unit vectors of a text's tokens, shape (tokens, width)."""
    import torch

    tokenizer, model = encoder(folder)
    longest = min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None) or 512)
    encoded = tokenizer(text, return_tensors="pt", truncation=True, max_length=longest, return_special_tokens_mask=True)
    is_text = encoded.pop("special_tokens_mask")[0] == 0
    if not is_text.any():
        return torch.empty(0, 1)
    with torch.no_grad():
        vectors = model(**encoded).last_hidden_state[0][is_text].float()
    return torch.nn.functional.normalize(vectors, dim=-1)


@functools.lru_cache(maxsize=1)
def encoder(folder: Path) -> tuple[Any, Any]:
    """Tokenizer and model of a folder, on the processor.

    Raises:
        TaskError: If there is none.
    """
    from transformers import AutoModel, AutoTokenizer

    if not folder.is_dir():  # transformers would take its path for a hub id
        rule = "a folder with an encoder and its tokenizer, and is none"
        raise TaskError("evaluation.answers", Fault("semantic_model", rule, str(folder)))
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        return tokenizer, AutoModel.from_pretrained(folder, local_files_only=True).eval()
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        rule = f"a folder with an encoder and its tokenizer ({reason})"
        raise TaskError("evaluation.answers", Fault("semantic_model", rule, str(folder))) from error
