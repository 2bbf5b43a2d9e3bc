"""Gemma 3: layers that see 512 tokens back, and a template of a file that takes no system role."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from tests.integration.conftest import Place
from tests.real import models
from tests.real.beside import assert_scored_alike, said
from tests.real.checks import assert_merged_answers_alike, assert_refused, assert_weights_are_counted
from tests.real.models import RealModel
from tunery.config.units import parse_bytes

# Download and conversion, once, count as the first test's.
pytestmark = [pytest.mark.real, pytest.mark.timeout(1500)]

TASK = "harbour"
TEMPLATE = """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for message in messages %}
{{- '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' }}
{{- message['content'] | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""


@pytest.fixture(scope="module")
def gemma3() -> RealModel:
    return models.gemma3()


@pytest.fixture(scope="module")
def trained(gemma3: RealModel, place: Place) -> Place:
    """Version 1, of two steps, and its adapter's folder; every row has a system text."""
    (place.folder / "gemma.jinja").write_text(TEMPLATE, encoding="utf-8")
    (place.folder / "rows.jsonl").write_text("".join(map(row, range(24))), encoding="utf-8")
    write_task(place)
    place.project(
        base={
            "model": str(gemma3.folder),
            "quantization": "none",
            "dtype": "float32",
            "chat_template": "gemma.jinja",
        },
        training={"max_steps": 2, "micro_batch_size": 1, "learning_rate": 1.0e-3, "checkpoints": 1},
        evaluation={
            "tasks": [TASK],
            "task_folders": ["."],
            "primary": {TASK: "acc"},
            "limit": None,
            "batch_size": 1,
            "generation": {"prompts": 0},
        },
        promotion={"min_gain": 0.0, "license": "gemma"},
    )
    said(place.tunery("train", "--project", "."))
    said(place.tunery("export", "models:/small/1", "--to", "adapter", "--out", "adapter"))
    return place


def row(number: int) -> str:
    turns = {"system": "Answer in a sentence.", "user": f"What comes after {number}?", "assistant": f"{number + 1}."}
    return json.dumps({"messages": [{"role": role, "content": text} for role, text in turns.items()]}) + "\n"


def write_task(place: Place) -> None:
    """Two items, one of which asks for what stands more than 512 tokens before its end."""
    log = " ".join(f"On day {day} a ship came to the harbour with salt and left it with wool." for day in range(1, 30))
    asked = {"options": ["salt", "the green lantern of the harbour master"], "right": 1}
    items = [
        {"text": f"The lost thing is a green lantern. {log}", **asked},
        {"text": "The lost thing is a green lantern.", **asked},
    ]
    (place.folder / "items.jsonl").write_text("".join(f"{json.dumps(item)}\n" for item in items), encoding="utf-8")
    task = {
        "task": TASK,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(place.folder / "items.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{text}} Which thing was lost?",
        "doc_to_choice": "{{options}}",
        "doc_to_target": "right",
        "metric_list": [
            {"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")
        ],
    }
    (place.folder / "task.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")


def test_a_preview_says_where_the_system_text_went(trained: Place) -> None:
    text = said(trained.tunery("train", "--project", ".", "--preview", "1"))
    assert "does not know the role system: system text is put before the first user turn in 24 rows" in text
    assert "Answer in a sentence." in text
    assert "<end_of_turn>" in text


def test_items_past_the_sliding_window_score_as_by_lm_evals_command_line(gemma3: RealModel, trained: Place) -> None:
    words = ["--include_path", str(trained.folder), "--batch_size", "1"]
    assert_scored_alike(trained, TASK, gemma3.folder, words)


def test_an_estimate_counts_its_weights(gemma3: RealModel, trained: Place) -> None:
    assert_weights_are_counted(trained, gemma3.folder)


def test_an_estimate_counts_its_vocabulary_and_the_windows_of_its_layers(gemma3: RealModel, trained: Place) -> None:
    """Against the shapes that Google published: 262,144 words, 640 numbers a token, 18 layers, each sixth sees all."""
    words, width, length, sliding = 262_144, 640, 1024, 15
    without = trained.folder / "without-windows"
    without.mkdir()
    config = json.loads((gemma3.folder / "config.json").read_text(encoding="utf-8"))
    (without / "config.json").write_text(json.dumps({**config, "sliding_window": None}), encoding="utf-8")
    asked = ("estimate", "--project", ".", "--data.max_length", str(length))
    own, bare = (trained.tunery(*asked, *more).out for more in ((), ("--base.model", str(without))))
    # Three numbers in fp32 a word of each token, the stream, and a mask.
    logits = length * (12 * words + 4 * width) + length**2
    assert size(own, "validation") == pytest.approx(logits, abs=0.005 * 2**30)
    # A row past a window needs a mask, as numbers and once as truth values, and for it the one key and value are
    # repeated for each of the four heads of 256.
    masks = sliding * (4 * length**2 + 2 * 3 * 4 * 256 * length) + length**2
    assert size(own, "activations") - size(bare, "activations") == pytest.approx(masks, abs=0.01 * 2**30)


def size(text: str, part: str) -> int:
    """Bytes in a part's row of an estimate."""
    (found,) = re.findall(rf"│ {part}[ │]+([\d.]+ [KMG]iB)", text)
    return parse_bytes(found)


def test_a_merged_folder_answers_alike_in_transformers_alone(gemma3: RealModel, trained: Place) -> None:
    from transformers import AutoConfig

    assert_merged_answers_alike(trained, gemma3.folder)
    kinds = AutoConfig.from_pretrained(trained.folder / "merged").layer_types
    assert [kinds.count(kind) for kind in ("sliding_attention", "full_attention")] == [15, 3]


def test_promotion_judges_it_on_the_same_scores(trained: Place) -> None:
    """Two items cannot show a gain, and the reason says so."""
    assert_refused(trained, items=2)
