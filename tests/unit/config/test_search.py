"""The section `search`: what a file may say of it, whatever the rest of the project is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunery.config.load import load_project
from tunery.config.project import Project, resolved
from tunery.config.search import Dimension, SearchConfig
from tunery.errors import ConfigError

MINIMAL = "name: x\nbase: {model: 'builtin:tiny'}\ndata: {train: [{source: rows.jsonl}]}\n"


def search_of(folder: Path, text: str) -> SearchConfig:
    (folder / "project.yaml").write_text(f"{MINIMAL}search: {text}\n", encoding="utf-8")
    return load_project(folder).search


def test_a_key_is_searched_in_a_range_or_choices_or_derived(tmp_path: Path) -> None:
    text = "{adapter.rank: {choices: [8], when: {adapter.method: lora}}, adapter.alpha: '2 * adapter.rank'}"
    space = search_of(tmp_path, f"{{space: {text}}}").space
    assert space == {
        "adapter.rank": Dimension(choices=[8], when={"adapter.method": "lora"}),
        "adapter.alpha": "2 * adapter.rank",
    }


def test_a_search_written_out_reads_back_to_itself(tmp_path: Path) -> None:
    search_of(tmp_path, "{space: {adapter.rank: {low: 1, high: 9, step: 2}, adapter.alpha: '2 * adapter.rank'}}")
    tree = resolved(load_project(tmp_path))
    assert resolved(Project.model_validate(tree)) == tree


def test_a_search_asks_for_one_objective_and_three_finalists_by_default(tmp_path: Path) -> None:
    search = search_of(tmp_path, "{}")
    assert (search.objectives, search.finalists, search.seeds) == ({"score": "maximize"}, 3, 3)
    assert search_of(tmp_path, "{finalists: 0}").finalists == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "{space: {adapter.rank: {low: 1, high: 9, step: 0}}}",
            "step (0.0) must be above 0 and at most high - low (8)",
        ),
        ("{space: {adapter.rank: {low: 1, high: 9, step: 10}}}", "step (10.0) must be above 0"),
        ("{space: {adapter.rank: {low: 1, high: .inf}}}", "search.space.adapter.rank.high"),
        ("{space: {adapter.rank: {choices: [8], log: true}}}", "either choices (at least one) or low and high"),
        ("{space: {adapter.rank: {choices: []}}}", "either choices (at least one) or low and high"),
        ("{space: {adapter.rank: {low: 1}}}", "either choices or both low and high"),
        ("{space: {adapter.rank: {low: 0, high: 1, log: true}}}", "log needs low (0) above 0"),
        ("{space: {adapter.rank: {low: 1, high: 9, step: 2, log: true}}}", "log goes without step (2)"),
        (
            "{space: {adapter.rank: {lwo: 1, high: 2}}}",
            "unknown key 'search.space.adapter.rank.lwo'. It may have: low, high, log,",
        ),
        ("{space: {training.learning_rate: {low: 1, hihg: 2}}}", "learning_rate.hihg'. Did you mean 'high'?"),
        ("{space: {adapter.rank: [8, 16]}}", "search.space.adapter.rank is [8, 16], but must be a mapping of keys"),
        ("{space: {adapter.rnak: '2 * adapter.rank'}}", "Did you mean 'adapter.rank'?"),
        ("{space: {data.train.weight: {low: 1, high: 2}}}", "unknown key 'data.train.weight'"),
        (
            "{space: {adapter.rank: {choices: [8], when: {adapter.metod: lora}}}}",
            "search.space.adapter.rank.when names the unknown key 'adapter.metod'. Did you mean 'adapter.method'?",
        ),
        ("{objectives: {score: up}}", "search.objectives.score is 'up', but must be one of 'maximize' or 'minimize'"),
        ("{constraints: {score: 0.5}}", "search.constraints.score is 0.5, but must be a text"),
        ("{sampler: bayes}", "search.sampler is 'bayes', but must be one of 'tpe'"),
        ("{timeout_seconds: 0}", "search.timeout_seconds is 0, but must be above 0"),
    ],
)
def test_a_search_that_is_none_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        search_of(tmp_path, text)
    assert expected in str(caught.value)
    assert len(caught.value.faults) == 1
