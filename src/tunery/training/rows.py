"""Examples as the trainer reads them: token ids and labels, packed where asked, never mixing two rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunery.errors import ConfigError, DataError, Fault
from tunery.records.rows import Example
from tunery.training.nll import target_labels

PLACE = "place"  # column: which of the examples a row is, where rows are not packed


def training_rows(examples: Sequence[Example], *, packing: bool, max_length: int, seed: int) -> Any:
    """A datasets.Dataset with input_ids, labels (-100 where nothing is learned) and place; seq_lengths when packed.

    The masks are ours, so TRL's own preparation, which may cut or drop rows, is not used.

    Args:
        examples: Rows, already at most max_length tokens long.
        packing: Fill sequences up to max_length with whole rows (best-fit decreasing).
        seed: Of the order in which rows are offered to the packer.

    Raises:
        DataError: If no row has a token to learn.
    """
    import datasets
    from trl import pack_dataset

    places = [place for place, example in enumerate(examples) if any(example.trained[1:])]
    usable = [examples[place] for place in places]
    if not usable:
        advice = "Raise data.max_length or set training.loss_on: all."
        raise DataError("data.train", f"no row has a token to learn. {advice}")
    ids = [list(example.input_ids) for example in usable]
    rows = datasets.Dataset.from_dict({"input_ids": ids, "labels": list(map(target_labels, usable))})
    if not packing:
        return rows.add_column(PLACE, places)
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()  # datasets' own bars stay out of the terminal and of logs
    try:
        return pack_dataset(rows.shuffle(seed=seed), max_length, strategy="bfd").with_format(None)
    finally:
        if shown:
            datasets.enable_progress_bars()


def require_exact_packing(model: Any, examples: Sequence[Example], device: str) -> None:
    """Refuse packing where a packed row can see the row before it.

    Two rows are packed twice, the second time with other tokens in the first; the second row's logits must not move.

    Raises:
        ConfigError: If they do: this architecture's attention ignores where rows begin.
    """
    import torch

    first, second = (list(example.input_ids[:64]) for example in (examples[0], examples[-1]))
    other = [token ^ 1 for token in first]  # neighbours in the vocabulary: other tokens, surely known ids
    positions = torch.tensor([[*range(len(first)), *range(len(second))]], device=device)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        seen, changed = (
            model(input_ids=torch.tensor([[*start, *second]], device=device), position_ids=positions, use_cache=False)
            .logits[0, len(first) :]
            .float()
            for start in (first, other)
        )
    model.train(was_training)
    # Masked-out tokens weigh exactly 0; the room is for kernels that sum in another order.
    if float((seen - changed).abs().max()) > 1e-3 * float(seen.abs().max()):
        rule = "false for this architecture: its layers do not keep packed rows apart"
        fault = Fault("training.packing", rule, True, "Set training.packing: false.")
        raise ConfigError(str(model.config.model_type), fault)
