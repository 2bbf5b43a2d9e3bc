"""A tokenizer of the tests' own, small files, and sources."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ message['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="session")
def trained_tokenizer() -> Tokenizer:
    """Byte-level BPE with 400 tokens, learned from a few sentences."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        ["What is the colour of the sky? The sky is blue.", "The answer is: blue."] * 20, trainer
    )
    return tokenizer


@pytest.fixture
def tokenizer(trained_tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """The tokenizer with ChatML; each test may change it."""
    fast = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(trained_tokenizer.to_str()), bos_token="<s>", eos_token="<|im_end|>"
    )
    fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "</s>"]}, replace_extra_special_tokens=False)
    fast.chat_template = CHATML
    return fast


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Any], Path]:
    """Write a file below the test's folder: text as it is, objects as JSON or JSON lines by the file's ending."""

    def write_file(name: str, content: Any) -> Path:
        file = tmp_path / name
        if isinstance(content, bytes):
            file.write_bytes(content)
        elif isinstance(content, str):
            file.write_bytes(content.encode())
        elif file.suffix == ".jsonl":
            file.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
        else:
            file.write_text(json.dumps(content), encoding="utf-8")
        return file

    return write_file
