"""Everything that can be wrong with a search is said before it starts, all at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.search.conftest import MakeProject

from tunery.config.load import load_project
from tunery.config.project import Project
from tunery.errors import ConfigError
from tunery.search.checks import check_search, pruner_note
from tunery.search.packing import pack_size

RATE = "training.learning_rate: {low: 1.0e-5, high: 1.0e-3, log: true}"
RANK = "adapter.rank: {choices: [8, 16, 32]}"
GOOD = f"{{{RATE}, {RANK}, adapter.alpha: '2 * adapter.rank'}}"


def faults(project: Project) -> str:
    with pytest.raises(ConfigError) as caught:
        check_search(project)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_a_space_without_faults_passes(make: MakeProject) -> None:
    check_search(make(GOOD))


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "gp", "cmaes", "nsga2"])
def test_every_sampler_takes_a_space_with_a_range(make: MakeProject, sampler: str) -> None:
    check_search(make(GOOD, search__sampler=sampler))


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ("{}", "search.space is {}, but must be at least one key"),
        ("{name: {choices: [a]}}", "'name', which cannot be searched: it names the experiment"),
        (
            "{adapter.start: {choices: [a]}}",
            "'adapter.start', which cannot be searched: every trial begins with the same",
        ),
        ("{search.trials: {low: 1, high: 4}}", "'search.trials', which cannot be searched"),
        ("{promotion.min_gain: {low: 0, high: 1}}", "'promotion.min_gain', which cannot be searched"),
        ("{evaluation.few_shot: {low: 0, high: 4}}", "asked the same questions"),
        ("{evaluation.dev_fraction: {low: 0.1, high: 0.9}}", "'evaluation.dev_fraction', which cannot be searched"),
        ("{data.validation.fraction: {low: 0.1, high: 0.2}}", "validation loss would not be comparable"),
        ("{training.seed: {low: 0, high: 9}}", "not by a hidden seed"),
        ("{adapter: {choices: [{rank: 8}]}}", "'adapter', which is a section: search the keys in it"),
        ("{data.train.7.weight: {low: 0.5, high: 2}}", "'data.train.7.weight', which the project does not have"),
        (
            "{data.train: {choices: [[{source: c}]]}, data.train.0.weight: {low: 0.5, high: 2}}",
            "is inside 'data.train'",
        ),
        ("{adapter.rank: {choices: [16, many]}}", "adapter.rank.choices is 'many', but must be a whole number"),
        ("{adapter.rank: {choices: [16, true]}}", "adapter.rank.choices True: True is a truth value"),
        ("{adapter.dora: {choices: [false, 3]}}", "adapter.dora.choices is 3, but must be true or false"),
        ("{training.scheduler: {choices: [cosine, cosin]}}", "training.scheduler.choices is 'cosin', but must be one"),
        ("{adapter.rank: {choices: [16, 16]}}", "distinct values"),
        ("{adapter.rank: {low: 1.5, high: 32}}", "adapter.rank.low is 1.5, but must be a whole number"),
        ("{adapter.rank: {low: 0, high: 32}}", "adapter.rank.low is 0.0, but must be at least 1"),
        ("{adapter.dropout: {low: 0.0, high: 1.0}}", "adapter.dropout.high is 1.0, but must be below 1"),
        ("{adapter.rank: {low: 1, high: 31, step: 1.5}}", "adapter.rank.step is 1.5, but must be a whole number"),
        ("{adapter.rank: {choices: [8, 32]}}", "adapter.rank is 16, but must be in its own search space: one of 8, 32"),
        ("{adapter.rank: {low: 20, high: 32}}", "adapter.rank is 16, but must be in its own search space: from 20"),
        ("{adapter.rank: {low: 1, high: 31, step: 10}}", "from 1 to 31 in steps of 10"),
        ("{training.neftune_noise_alpha: {low: 1, high: 9}}", "training.neftune_noise_alpha is None, but must be"),
        ("{adapter.alpha: '2 *'}", "search.space.adapter.alpha is '2 *', but must be an expression"),
        ("{adapter.alpha: 'open(1)'}", "calls only min, max"),
        ("{adapter.alpha: '2 * adapter.rnak'}", "uses the unknown key 'adapter.rnak'. Did you mean 'adapter.rank'?"),
        ("{adapter.alpha: '2 * adapter.alpha'}", "adapter.alpha -> adapter.alpha"),
        ("{adapter.alpha: 'adapter.rank', adapter.rank: 'adapter.alpha'}", "keys depend on each other"),
        (
            "{adapter.rank: {choices: [16], when: {adapter.dora: true}}, "
            "adapter.dora: {choices: [true, false], when: {adapter.rank: 16}}}",
            "Break the circle",
        ),
        (
            "{adapter.rank: {choices: [16], when: {adapter.dora: maybe}}}",
            "adapter.rank.when.adapter.dora is 'maybe', but must be true or false",
        ),
        (
            "{adapter.rank: {choices: [16], when: {training.scheduler: linear}}, "
            "training.scheduler: {choices: [cosine, constant]}}",
            "As it is, the key is never searched.",
        ),
    ],
)
def test_a_fault_of_the_space_is_named(make: MakeProject, space: str, expected: str) -> None:
    assert expected in faults(make(space))


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (
            {"search__sampler": "grid"},
            "learning_rate is {'low': 1e-05, 'high': 0.001}, but must be choices, or a range",
        ),
        (
            {"search__sampler": "cmaes", "search__objectives": "{score: maximize, train_seconds: minimize}"},
            "CMA-ES optimises one",
        ),
        ({"search__sampler": "cmaes", "search__constraints": "{train_seconds: '<= 9'}"}, "CMA-ES ignores them"),
        ({"search__prune_by": "score", "training__score_checkpoints": "false"}, "Set training.score_checkpoints: true"),
        (
            {"search__prune_by": "validation/nll", "data__validation__fraction": "0", "training__keep_best_by": "last"},
            "score when there are no validation rows",
        ),
        ({"search__pruner": "wilcoxon"}, "training.checkpoints is 4, but must be at least 5"),
        ({"search__memory": "much"}, "search.memory is 'much', but must be"),
        (
            {"search__memory": "24"},
            "search.memory is '24', but must be an amount of memory above 0, a number and a unit",
        ),
        ({"search__memory": "1.5"}, "Did you mean '1.5 GiB'?"),
        ({"search__objectives": "{}"}, "search.objectives is {}, but must be at least one metric"),
        ({"search__objectives": "{scoer: maximize}"}, "Did you mean 'score'?"),
        ({"search__objectives": "{base/score: maximize}"}, "the same in every trial. Try 'delta/score'."),
        ({"search__objectives": "{delta/world_fact: maximize}"}, "Did you mean 'world_facts'?"),
        ({"search__objectives": "{delta/quickstart: maximize}"}, "'quickstart' is a suite: it means world_facts"),
        ({"search__objectives": "{lm_eval/arc_easy/acc: maximize}"}, "'arc_easy' is not in evaluation.tasks"),
        ({"search__constraints": "{peak_memory_bytes: 22 GiB}"}, "is '22 GiB', but must be <= or >= and a number"),
        ({"search__constraints": "{delta/world_facts: '>= 2 GiB'}"}, "is '>= 2 GiB', but must be <= or >="),
        ({"search__constraints": "{delta/world_facts: '>= nan'}"}, "is '>= nan', but must be <= or >="),
        ({"search__constraints": "{peak_memory: '<= 2'}"}, "Did you mean 'peak_memory_bytes'?"),
        ({"search__known_good": "[none.yaml]"}, "none.yaml: cannot be read"),
    ],
)
def test_a_fault_of_the_search_is_named(make: MakeProject, keys: dict[str, str], expected: str) -> None:
    assert expected in faults(make(GOOD, **keys))


@pytest.mark.parametrize("bound", ["<= 22 GiB", "<= 2"])
def test_a_metric_that_nobody_knows_is_one_fault(make: MakeProject, bound: str) -> None:
    text = faults(make(GOOD, search__constraints=f"{{peak_memory: '{bound}'}}"))
    assert "faults" not in text
    assert "Did you mean 'peak_memory_bytes'?" in text


def test_scores_need_tasks(make: MakeProject) -> None:
    project = make(GOOD, evaluation__tasks="[]", training__score_checkpoints="false")
    assert "search.objectives names 'score', but evaluation.tasks is empty" in faults(project)


def test_a_loss_needs_validation_rows(make: MakeProject) -> None:
    keys = {"data__validation__fraction": "0", "training__keep_best_by": "last"}
    project = make(GOOD, search__objectives="{validation/nll: minimize}", **keys)
    assert "but there are no validation rows" in faults(project)


@pytest.mark.parametrize(
    "searched",
    [
        "training.loss_on: {choices: [completion, all]}",
        "data.clean.keep: {choices: [a-z, A-Z]}",
        "data.max_length: {choices: [64, 128]}",
        "data.template: {choices: [chat, plain]}",
        "base.model: {choices: ['builtin:tiny', other]}",
    ],
)
def test_losses_over_different_tokens_judge_no_trial(make: MakeProject, searched: str) -> None:
    key = searched.partition(":")[0]
    by_loss = make(f"{{{RATE}, {searched}}}", search__objectives="{validation/nll: minimize}")
    assert f"search.space.{key} changes what the loss is a mean of" in faults(by_loss)
    bounded = make(f"{{{RATE}, {searched}}}", search__constraints="{validation/nll: '<= 2'}")
    assert f"search.space.{key} changes what the loss is a mean of" in faults(bounded)
    pruned = make(f"{{{RATE}, {searched}}}", search__prune_by="validation/nll")
    assert f"score or auto when search.space has {key}" in faults(pruned)
    unscored = make(f"{{{RATE}, {searched}}}", training__score_checkpoints="false")
    assert "set training.score_checkpoints: true" in (pruner_note(unscored) or "")


GRID = {"search__sampler": "grid", "search__trials": "all", "search__repeats": "3", "search__pruner": "none"}


def test_repeats_of_a_whole_grid_pass(make: MakeProject) -> None:
    check_search(make(f"{{{RANK}}}", **GRID))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"search__sampler": "random"}, "search.sampler is 'random', but must be grid when search.repeats is set"),
        ({"search__sampler": "tpe"}, "search.trials is 'all', but must be a number unless search.sampler is grid"),
        ({"search__trials": "3"}, "search.trials is 3, but must be all when search.repeats is set"),
        ({"search__pruner": "median"}, "search.pruner is 'median', but must be none when search.repeats is set"),
    ],
)
def test_repeats_of_anything_else_are_refused(make: MakeProject, changed: dict[str, str], expected: str) -> None:
    assert expected in faults(make(f"{{{RANK}}}", **GRID | changed))


def test_a_race_over_the_score_passes(make: MakeProject) -> None:
    check_search(make(GOOD, search__racing="0.05", training__score_checkpoints="false"))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"search__objectives": "{validation/nll: minimize}"}, "unset unless search.objectives is {score: maximize}"),
        ({"search__objectives": "{score: maximize, train_seconds: minimize}"}, "unset unless search.objectives is"),
        ({"training__score_checkpoints": "true"}, "unset when training.score_checkpoints is true"),
        ({**GRID}, "unset when search.repeats is set"),
    ],
)
def test_a_race_that_cannot_be_run_is_refused(make: MakeProject, changed: dict[str, str], expected: str) -> None:
    text = faults(make(f"{{{RANK}}}", **{"search__racing": "0.05", "training__score_checkpoints": "false"} | changed))
    assert "search.racing is 0.05, but must be" in text
    assert expected in text


@pytest.mark.parametrize("pack", ["'off'", "off", "auto", "1", "4"])
def test_packs_of_adapters_pass(make: MakeProject, pack: str) -> None:
    check_search(make(GOOD, search__pack=pack))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"search__objectives": "{train_seconds: minimize}"}, "off where train_seconds decides"),
        ({"search__constraints": "{peak_memory_bytes: '<= 2 GiB'}"}, "off where peak_memory_bytes decides"),
        ({"search__timeout_seconds": "60"}, "search.timeout_seconds is 60.0, but must be unset for trials in a pack"),
        ({"search__space": "{base.weights: {choices: [packed, expanded]}}"}, "off where search.space has base.weights"),
        (
            {"search__space": "{adapter.method: {choices: [lora, full]}}", "base__quantization": "none"},
            "off with adapter.method",
        ),
        ({"adapter__method": "full", "base__quantization": "none"}, "off with adapter.method: full"),
        ({"adapter__dora": "true"}, "off with adapter.dora: True"),
        ({"training__packing": "true"}, "off with training.packing: True"),
        ({"training__gradient_checkpointing": "true"}, "off with training.gradient_checkpointing: True"),
        ({"training__neftune_noise_alpha": "5"}, "off with training.neftune_noise_alpha: 5.0"),
        ({"training__precision": "fp16"}, "off with training.precision: fp16"),
        ({"search__space": "{training.precision: {choices: [auto, fp32, bf16]}}"}, "off with training.precision: auto"),
    ],
)
def test_packs_that_cannot_be_are_refused_and_auto_does_without(
    make: MakeProject, changed: dict[str, str], expected: str
) -> None:
    assert expected in faults(make(f"{{{RANK}}}", **{"search__pack": "4"} | changed))
    assert pack_size(make(f"{{{RANK}}}", **{"search__pack": "auto"} | changed), 20) == 1


@pytest.mark.parametrize(
    ("pack", "trials", "expected"), [("auto", 20, 4), ("auto", 2, 2), ("8", 20, 8), ("off", 20, 1), ("3", 0, 1)]
)
def test_a_pack_is_no_larger_than_what_is_left(make: MakeProject, pack: str, trials: int, expected: int) -> None:
    assert pack_size(make(GOOD, search__pack=pack), trials) == expected


def test_cmaes_needs_a_range(make: MakeProject) -> None:
    assert "choices only" in faults(make(f"{{{RANK}}}", search__sampler="cmaes"))


def test_a_group_of_the_projects_own_folder_lends_its_tasks_to_objectives(make: MakeProject, tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "both.yaml").write_text("group: both\ntask: [world_facts, world_comparison]\n")
    keys = {"evaluation__task_folders": "[tasks]", "evaluation__tasks": "[both]"}
    check_search(make(GOOD, search__objectives="{delta/world_facts: maximize}", **keys))


def test_a_task_named_after_a_group_of_lm_eval_is_left_to_its_index(make: MakeProject) -> None:
    check_search(make(GOOD, evaluation__tasks="[mmlu]", search__constraints="{delta/mmlu_astronomy: '>= 0'}"))


def test_a_grid_takes_no_more_trials_than_it_has_points(make: MakeProject) -> None:
    space = f"{{{RANK}, adapter.dora: {{choices: [true, false]}}}}"
    check_search(make(space, search__sampler="grid", search__trials="6"))
    assert "search.trials is 7, but must be at most 6" in faults(
        make(space, search__sampler="grid", search__trials="7")
    )


def test_a_grid_of_too_many_points_is_refused(make: MakeProject) -> None:
    space = "{adapter.rank: {low: 1, high: 10001, step: 1}, adapter.dora: {choices: [true, false]}}"
    assert "at most 10000 points" in faults(make(space, search__sampler="grid"))


def test_an_override_outside_of_the_space_stops_a_search_but_no_training(make: MakeProject) -> None:
    project = make(GOOD, adapter__rank="64")
    assert project.adapter.rank == 64
    assert "add the value to search.space.adapter.rank" in faults(project)


def test_a_condition_that_does_not_hold_in_the_project_asks_nothing_of_its_own_value(make: MakeProject) -> None:
    space = "{adapter.dora: {choices: [true, false]}, adapter.rank: {choices: [4, 8], when: {adapter.dora: true}}}"
    check_search(make(space))


def test_all_faults_come_at_once(make: MakeProject) -> None:
    space = f"{{training.seed: {{low: 0, high: 9}}, adapter.alpha: '2 *', adapter.rank: {{choices: [8]}}, {RATE}}}"
    text = faults(make(space, search__constraints="{train_seconds: soon}", search__memory="x"))
    assert "has 5 faults" in text
    assert all(word in text for word in ("'training.seed'", "'2 *'", "'soon'", "search.memory", "adapter.rank is 16"))


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, None),
        ({"search__pruner": "none"}, None),
        ({"search__objectives": "{score: maximize, train_seconds: minimize}"}, "by one objective"),
        (
            {
                "training__score_checkpoints": "false",
                "data__validation__fraction": "0",
                "training__keep_best_by": "last",
            },
            "nothing is measured",
        ),
    ],
)
def test_a_pruner_that_does_nothing_is_noted(make: MakeProject, keys: dict[str, str], expected: str | None) -> None:
    project = make(GOOD, **keys)
    check_search(project)
    note = pruner_note(project)
    assert note is None if expected is None else expected in str(note)


@pytest.mark.parametrize(
    ("derived", "expected"),
    [
        ("'1.1 * adapter.rank'", r"search.space.adapter.alpha ('1.1 * adapter.rank') is "),
        ("'1.1 * adapter.rank'", "a whole number. Try round(1.1 * adapter.rank)."),
        ("\"'x'\"", "search.space.adapter.alpha (\"'x'\") is 'x', but must be a whole number"),
        ("'0 * adapter.rank'", "search.space.adapter.alpha ('0 * adapter.rank') is 0, but must be"),
        ("'adapter.rank / 0'", "search.space.adapter.alpha: 'adapter.rank / 0' has no value"),
        ("'-training.learning_rate'", "search.space.adapter.alpha ('-training.learning_rate') is "),
    ],
)
def test_a_derived_key_that_no_trial_could_have_is_refused(make: MakeProject, derived: str, expected: str) -> None:
    assert expected in faults(make(f"{{{RATE}, {RANK}, adapter.alpha: {derived}}}"))


@pytest.mark.parametrize(
    "derived", ["0.5 * adapter.rank", "adapter.rank / 16", "adapter.rank if adapter.rank > 8 else 0"]
)
def test_a_derived_key_that_some_trials_can_have_passes(make: MakeProject, derived: str) -> None:
    check_search(make(f"{{{RANK}, adapter.alpha: '{derived}'}}"))


def test_what_the_adapter_that_trials_begin_with_has_settled_cannot_be_searched(make: MakeProject) -> None:
    space = "{adapter.rank: {choices: [8, 16]}, adapter.dropout: {low: 0.0, high: 0.2}}"
    check_search(make(space))
    with pytest.raises(
        ConfigError, match=r"'adapter.rank', which cannot be searched: models:/x/1, .*settled it"
    ) as caught:
        check_search(make(space, adapter__start="models:/x/1"))
    assert len(caught.value.faults) == 1


def prompted(make: MakeProject, variants: str, **keys: str) -> Project:
    source = "[{source: a.csv, columns: {completion: meta}}]"
    space = f"{{data.prompt_template: {{choices: {variants}}}}}"
    return make(space, data__train=source, data__prompt_template="'{review}'", **keys)


def test_prompt_variants_are_a_dimension_and_are_read_before_anything_starts(make: MakeProject) -> None:
    check_search(prompted(make, "['{review}', 'Sum up: {review}']", search__objectives="{validation/nll: minimize}"))
    assert "search.space.data.prompt_template.choices: a lone '{' in 'Sum up: {'" in faults(
        prompted(make, "['{review}', 'Sum up: {']")
    )
    assert "search.space.data.prompt_template.choices: no column in 'Sum up.'" in faults(
        prompted(make, "['{review}', 'Sum up.']")
    )


def test_prompt_variants_change_a_loss_over_every_token(make: MakeProject) -> None:
    keys = {"search__objectives": "{validation/nll: minimize}", "training__loss_on": "all"}
    assert "changes what the loss is a mean of" in faults(prompted(make, "['{review}', 'Sum up: {review}']", **keys))


def test_a_fault_stands_under_the_file_that_the_user_named_and_is_called_as_it_was_given(
    make: MakeProject, tmp_path: Path
) -> None:
    make()
    smoke = (tmp_path / "project.yaml").rename(tmp_path / "smoke.yaml")
    project = load_project(smoke, [("search.space", GOOD), ("search.sampler", "tpe"), ("search.trials", "all")])
    assert str(faults(project)).startswith(f"{smoke}: --search.trials is 'all', but must be a number")
