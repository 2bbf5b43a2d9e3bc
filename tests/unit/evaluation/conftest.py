"""A random two-layer Llama with a byte-level tokenizer, and tasks in a temporary folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tunery.config.evaluation import EvaluationConfig
from tunery.evaluation.tasks import Tasks, load_tasks

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
COLOURS = ("deep red", "pale green", "light blue", "bright yellow")
MULTIPLE_CHOICE = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}.jsonl, train: shots.jsonl}}}}
output_type: multiple_choice
test_split: test
training_split: train
fewshot_split: train
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_choice: "{{{{options}}}}"
doc_to_target: gold
num_fewshot: {shots}
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
{extra}metadata: {{version: 3.0}}
"""
AGREEMENT = "  - {metric: mcc, aggregation: matthews_corrcoef, higher_is_better: true}\n"
WRITING = """
task: writing
dataset_path: json
dataset_kwargs: {data_files: {test: many.jsonl, train: shots.jsonl}}
output_type: generate_until
test_split: test
fewshot_split: train
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_target: "{{options[gold]}}"
num_fewshot: 1
generation_kwargs: {until: ["\\n"], max_gen_toks: 6, do_sample: false}
filter_list:
  - {name: whole, filter: [{function: take_first}]}
  - {name: first-word, filter: [{function: regex, regex_pattern: "(\\\\w+)"}, {function: take_first}]}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
metadata: {version: 1.0}
"""
FILLING = """
task: filling
dataset_path: json
dataset_kwargs: {data_files: few.jsonl}
output_type: multiple_choice
test_split: train
doc_to_text: "{{gold}}"
doc_to_choice: "{{options}}"
doc_to_target: "is the colour"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
NEXT_WORD = """
task: next_word
dataset_path: json
dataset_kwargs: {data_files: few.jsonl}
output_type: loglikelihood
test_split: train
doc_to_text: "{{question}}"
doc_to_target: " {{options[gold]}}"
metric_list:
  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""
WHOLE_TEXT = """
task: whole_text
dataset_path: json
dataset_kwargs: {data_files: few.jsonl}
output_type: loglikelihood_rolling
test_split: train
doc_to_text: ""
doc_to_target: "{{question}}"
metric_list: [{metric: word_perplexity, aggregation: weighted_perplexity, higher_is_better: false}]
"""
GROUP = """
group: both
task: [many, few]
aggregate_metric_list:
  - {metric: acc, weight_by_size: WEIGHT}
metadata: {version: 2.0}
"""


def rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        {"question": f"which colour has the house {number}?", "options": list(COLOURS), "gold": number % 4}
        for number in range(start, start + count)
    ]


def write_rows(path: Path, items: list[dict[str, Any]]) -> None:
    path.write_text("\n".join(map(json.dumps, items)), encoding="utf-8")


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(["Question: which colour has the house?\nAnswer:", *COLOURS], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|endoftext|>", pad_token="<|endoftext|>", extra_special_tokens=specials[1:]
    )
    fast.chat_template = CHATML
    return fast


@pytest.fixture
def model(tokenizer: Any) -> Any:
    return random_llama(len(tokenizer))


def random_llama(vocabulary: int, **changes: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    settings: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 512,
        "initializer_range": 0.3,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": 0,
    }
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, **(settings | changes))).eval()


@pytest.fixture(scope="session")
def task_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project") / "tasks"
    folder.mkdir()
    write_rows(folder / "many.jsonl", rows(30))
    write_rows(folder / "few.jsonl", rows(10, start=100))
    write_rows(folder / "shots.jsonl", rows(8, start=200))
    (folder / "many.yaml").write_text(MULTIPLE_CHOICE.format(name="many", file="many", shots=2, extra=""))
    (folder / "few.yaml").write_text(MULTIPLE_CHOICE.format(name="few", file="few", shots=0, extra=""))
    agreement = MULTIPLE_CHOICE.format(name="agreement", file="few", shots=0, extra=AGREEMENT)
    (folder / "agreement.yaml").write_text(agreement)
    for name, text in {
        "writing": WRITING,
        "filling": FILLING,
        "next_word": NEXT_WORD,
        "whole_text": WHOLE_TEXT,
    }.items():
        (folder / f"{name}.yaml").write_text(text)
    (folder / "weighted.yaml").write_text(GROUP.replace("WEIGHT", "true"))
    (folder / "equal.yaml").write_text(GROUP.replace("WEIGHT", "false").replace("both", "equal"))
    return folder


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Matrices this small are slower on several threads, most of all where other processes run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Loader:
    """Loads tasks of the temporary folder with settings of `evaluation`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def config(self, *names: str, **settings: Any) -> EvaluationConfig:
        return EvaluationConfig.model_validate({"tasks": list(names), "task_folders": [str(self.folder)], **settings})

    def __call__(self, *names: str, chat_template: bool = False, **settings: Any) -> tuple[Tasks, EvaluationConfig]:
        evaluation = self.config(*names, **settings)
        return load_tasks(evaluation, self.folder.parent, chat_template), evaluation


@pytest.fixture(scope="session")
def make_llama() -> Callable[..., Any]:
    return random_llama


@pytest.fixture(scope="session")
def write_task() -> Callable[..., None]:
    """Write a multiple-choice task with so many items into a folder."""

    def write(
        folder: Path, name: str, items: int, shots: int = 0, options: list[str] | None = None, extra: str = ""
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        made = [row | {"options": options or row["options"]} for row in rows(items)]
        write_rows(folder / f"{name}.jsonl", made)
        write_rows(folder / "shots.jsonl", rows(8, start=200))
        (folder / f"{name}.yaml").write_text(MULTIPLE_CHOICE.format(name=name, file=name, shots=shots, extra=extra))

    return write


@pytest.fixture(scope="session")
def load(task_folder: Path) -> Loader:
    return Loader(task_folder)
