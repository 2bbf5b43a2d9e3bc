"""A stand-in for a project's base, so that its smoke.yaml runs on a CPU without the Hub.

    python projects/stand_in.py projects/lima-mistral

Writes `stand-in/` beside smoke.yaml: the base's architecture with two narrow layers, a tokenizer learned from the
project's own sample rows, and weights raised on these rows for a few seconds. It can spell them and knows nothing else:
what a smoke run shows is that every step works, never what the base would score.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerFast

# By the name of a project's folder; transformers' names of the architectures.
ARCHITECTURES = {
    "instruct-llama": "llama",
    "lima-mistral": "mistral",
    "lima-mixtral": "mixtral",
    "meta-review-pythia": "gpt_neox",
    "nli-opt": "opt",
    "qa-mistral": "mistral",
}
VOCABULARY, POSITIONS, WIDTH = 768, 512, 64
STEPS, BATCH, BLOCK = 60, 8, 96
_SPECIAL = ("<s>", "</s>", "<pad>")
# Turns between headers, as Llama 3 writes them; the other bases have no chat template and are given ChatML.
_TURN = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
_TEMPLATE = (
    "{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|eot_id|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|eot_id|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)


def main() -> None:
    """Make the stand-ins of the folders that are named."""
    for folder in map(Path, sys.argv[1:]):
        print(make(folder))


def make(folder: Path) -> Path:
    """Write the stand-in of a project into its folder; where it is."""
    import torch
    from transformers import AutoModelForCausalLM

    texts = list(_texts(folder))
    tokenizer = _tokenizer(texts, "llama" if folder.name == "instruct-llama" else "")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config(folder.name, len(tokenizer)))
    _raise(model, tokenizer, texts)
    place = folder / "stand-in"
    model.save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


def config(project: str, vocabulary: int = VOCABULARY) -> PretrainedConfig:
    """The stand-in's shape."""
    from transformers import AutoConfig

    kind = ARCHITECTURES[project]
    inner = {"opt": {"ffn_dim": 2 * WIDTH, "word_embed_proj_dim": WIDTH}}.get(kind, {"intermediate_size": 2 * WIDTH})
    grouped = {"num_key_value_heads": 2} if kind in ("llama", "mistral", "mixtral") else {}
    experts = {"num_local_experts": 4} if kind == "mixtral" else {}
    return AutoConfig.for_model(
        kind,
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=POSITIONS,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        **inner,
        **grouped,
        **experts,
    )


def _texts(folder: Path) -> Iterator[str]:
    """Every text in the rows that smoke.yaml trains on and asks."""
    from tunery.config.load import load_project
    from tunery.data.reading.load import all_sources, load_rows

    project = load_project(folder / "smoke.yaml")
    for source in (*all_sources(project.data), *project.evaluation.answers):
        for row in load_rows(source, folder).rows:
            yield "\n".join(_words(list(row.values.values())))


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _words(inner)


def _tokenizer(texts: Sequence[str], family: str) -> PreTrainedTokenizerFast:
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    special = [*_SPECIAL, *(_TURN if family == "llama" else ())]
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(texts, vocab_size=VOCABULARY, special_tokens=special, show_progress=False)
    names = {"bos_token": "<s>", "eos_token": _TURN[-1] if family == "llama" else "</s>", "pad_token": "<pad>"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer, model_max_length=POSITIONS, additional_special_tokens=special, **names
    )
    if family == "llama":
        tokenizer.chat_template = _TEMPLATE
    return tokenizer


def _raise(model: Any, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> None:
    """Some steps of language modelling on blocks of the texts, drawn at random."""
    import torch

    ids = torch.tensor([token for text in texts for token in (*tokenizer(text)["input_ids"], tokenizer.eos_token_id)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(STEPS):
        starts = torch.randint(len(ids) - BLOCK, (BATCH,))
        block = torch.stack([ids[start : start + BLOCK] for start in starts])
        loss = model(input_ids=block, labels=block).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()


if __name__ == "__main__":
    main()
