"""A model card is what the Hub reads, and says what a reader asks."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard

from tunery.serving.export.card import CardFacts, model_card
from tunery.serving.export.model import scores_of

METRICS = {
    "lm_eval/quiz/acc": 0.8825, "lm_eval/quiz/acc_stderr": 0.0161, "base/quiz/acc": 0.2675,
    "base/quiz/acc_stderr": 0.0222, "delta/quiz/acc": 0.615, "delta/quiz/acc_stderr": 0.0266,
    "lm_eval/other/f1": math.nan, "lm_eval/a group/part/acc": 0.5, "score": 0.88, "train/loss": 0.1,
}  # fmt: skip
FACTS = CardFacts(
    name="lima", form="adapter", base="mistralai/Mistral-7B-v0.1", revision="7231864", license="apache-2.0",
    hub_base=True, scores=scores_of(METRICS, ["quiz"]),
    data={
        "sources": [
            {"source": "GAIR/lima", "rows_kept": 1000, "rows_read": 1030, "digest": "ff11aa22bb33cc44"},
            {"source": "/home/me/secret/extra.jsonl", "rows_kept": 5, "rows_read": 5, "digest": "00"},
        ],
        "train_rows": 900, "validation_rows": 100, "contaminated": {"GAIR/lima:3": "quiz"},
    },
    settings={"adapter.rank": 16, "adapter.dora": False, "training.learning_rate": 0.0002, "name": "lima"},
    lineage={"run": "a1b2", "git commit": "c0ffee"},
    vllm_rank=16,
)  # fmt: skip


def front(facts: CardFacts) -> ModelCard:
    return ModelCard(model_card(facts))


def test_the_front_matter_is_what_the_hub_reads() -> None:
    data = front(FACTS).data
    assert (data.base_model, data.library_name, data.license) == ("mistralai/Mistral-7B-v0.1", "peft", "apache-2.0")
    assert data.base_model_relation == "adapter"
    assert data.datasets == ["GAIR/lima"]
    assert data.metrics == ["acc"]
    assert [(r.dataset_name, r.metric_type, r.metric_value) for r in data.eval_results] == [
        ("quiz", "acc", 0.8825), ("a group/part", "acc", 0.5)
    ]  # fmt: skip


def test_a_merged_model_is_a_fine_tuned_one_for_transformers() -> None:
    data = front(replace(FACTS, form="merged")).data
    assert (data.library_name, data.base_model_relation) == ("transformers", "finetune")


def test_a_base_that_the_hub_does_not_have_is_not_claimed() -> None:
    data = front(replace(FACTS, base="builtin:tiny", hub_base=False, license=None)).data
    assert (data.base_model, data.license) == (None, "unknown")


def test_scores_stand_beside_the_base_with_their_errors() -> None:
    row = "| quiz | acc | 0.2675 ± 0.0222 | 0.8825 ± 0.0161 | +0.6150 ± 0.0266 |"
    assert row in model_card(FACTS)


def test_scores_of_the_items_it_was_chosen_on_are_called_so_and_not_told_to_the_hub() -> None:
    card = front(replace(FACTS, scored_on="chosen"))
    assert card.data.eval_results is None
    assert "## Scores on the items that the model was chosen on" in card.content
    assert "expect lower scores on others" in card.content


def test_scores_of_locked_items_are_called_so() -> None:
    card = front(replace(FACTS, scored_on="locked"))
    assert card.data.eval_results
    assert "locked items, which no choice was based on" in card.content
    assert "Both models answered the same items" in card.content
    alone = front(replace(FACTS, scores=[replace(FACTS.scores[0], base=None, delta_stderr=None)], scored_on="locked"))
    assert "Both models" not in alone.content


def test_the_base_is_loaded_at_its_revision_with_room_for_added_tokens() -> None:
    pinned = 'from_pretrained("mistralai/Mistral-7B-v0.1", revision="7231864", dtype="auto")'
    plain, added = model_card(FACTS), model_card(replace(FACTS, new_tokens=True))
    assert pinned in plain
    assert pinned in added
    assert "resize_token_embeddings" not in plain
    assert (
        added.index("base = ") < added.index("base.resize_token_embeddings(len(tokenizer))") < added.index("model = ")
    )
    assert "revision=" not in model_card(replace(FACTS, hub_base=False))


def test_scores_that_are_no_numbers_are_left_out_and_those_asked_for_come_first() -> None:
    assert [(score.task, score.metric) for score in FACTS.scores] == [("quiz", "acc"), ("a group/part", "acc")]
    assert FACTS.scores[1].base is None


def test_data_settings_and_lineage_are_told() -> None:
    text = model_card(FACTS)
    assert "| GAIR/lima | 1,000 | 1,030 | `ff11aa22bb33` |" in text
    assert "900 rows were trained on, 100 held out; 1 of the rows read overlap" in text
    assert "| adapter.rank | 16 |" in text
    assert "| adapter.dora | false |" in text
    assert "- git commit: `c0ffee`" in text


def test_where_a_file_lay_is_not_told() -> None:
    text = model_card(FACTS)
    assert "/home/me" not in text
    assert "| extra.jsonl | 5 |" in text


def test_vllm_is_offered_only_where_it_loads_the_adapter() -> None:
    assert "--max-lora-rank 16 --lora-modules lima=$PWD" in model_card(FACTS)
    assert "vllm serve" not in model_card(replace(FACTS, vllm_rank=None))
    assert "--chat-template" not in model_card(replace(FACTS, chat_template=False))


@pytest.mark.parametrize("form", ["adapter", "merged"])
def test_a_card_of_a_model_of_which_nothing_is_known(form: str) -> None:
    bare = CardFacts(name="x", form=form, base="b", revision="r", license=None, hub_base=False)
    card = front(bare)
    assert card.data.eval_results is None
    assert "## Scores" not in card.content
