"""project.yaml in, a validated Project or all of its faults out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tunery.config.fields import dotted_keys, field_at
from tunery.config.load import load_project, project_from
from tunery.config.project import Project
from tunery.errors import ConfigError

MINIMAL = "name: x\nbase: {model: 'builtin:tiny'}\ndata: {train: [{source: rows.jsonl}]}\n"
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def _write(text: str) -> Path:
        (tmp_path / "project.yaml").write_text(text, encoding="utf-8")
        return tmp_path

    return _write


def message(folder: Path, overrides: tuple[tuple[str, str], ...] = ()) -> str:
    with pytest.raises(ConfigError) as caught:
        load_project(folder, overrides)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_a_minimal_project_takes_the_defaults(write: Write) -> None:
    project = load_project(write(MINIMAL))
    assert (project.adapter.rank, project.training.learning_rate, project.base.quantization) == (16, 2e-4, "nf4")
    assert project.folder == write(MINIMAL).resolve()


def test_a_file_and_its_folder_mean_the_same(write: Write) -> None:
    folder = write(MINIMAL)
    assert load_project(folder) == load_project(folder / "project.yaml")


def test_an_unknown_key_is_answered_with_the_nearest(write: Write) -> None:
    assert "unknown key 'adapter.rnak'. Did you mean 'adapter.rank'?" in message(
        write(MINIMAL + "adapter: {rnak: 4}\n")
    )


def test_all_faults_of_a_file_come_at_once(write: Write) -> None:
    text = message(write(MINIMAL + "adapter: {rnak: 4, alpha: 0}\ntraining: {learning_rate: fast, seed: yes}\n"))
    assert "has 4 faults" in text
    assert "adapter.alpha is 0, but must be at least 1." in text
    assert "training.learning_rate is 'fast', but must be a number. Try 2.0e-4." in text
    assert "training.seed" in text


def test_a_float_that_yaml_reads_as_text_is_a_number(write: Write) -> None:
    assert load_project(write(MINIMAL), [("training.learning_rate", "2e-4")]).training.learning_rate == 2e-4


def test_text_that_is_not_yaml_is_refused_with_its_line(write: Write) -> None:
    assert "line 2" in message(write("name: x\nbase: [unclosed\n"))


def test_a_key_given_twice_is_refused(write: Write) -> None:
    assert "given twice" in message(write(MINIMAL + "name: y\n"))


@pytest.mark.parametrize("text", ["", "just text", "- a\n- b\n", "\x00"])
def test_a_file_that_is_no_mapping_is_refused(write: Write, text: str) -> None:
    assert "project.yaml" in message(write(text))


def test_a_missing_project_names_where_it_was_looked_for(tmp_path: Path) -> None:
    assert "the folder or file holds no project.yaml" in message(tmp_path)


def test_needed_keys_are_asked_for(write: Write) -> None:
    text = message(write("name: x\n"))
    assert "base: is missing" in text
    assert "data: is missing" in text


@pytest.mark.parametrize("name", ["a b", "../x", "", "é"])
def test_a_name_that_no_registry_takes_is_refused(write: Write, name: str) -> None:
    assert "name is" in message(write(MINIMAL.replace("name: x", f"name: '{name}'")))


@pytest.mark.parametrize("text", [f"{MINIMAL}x: 2020-13-45\n", "[" * 3000, "? {a: b}\n: c\n", "<<: 3\n"])
def test_yaml_that_breaks_its_reader_is_refused(write: Write, text: str) -> None:
    assert "project.yaml" in message(write(text))


def test_a_merge_key_is_no_repeated_key(write: Write) -> None:
    text = MINIMAL + "search: {space: {adapter.rank: &a {low: 1, high: 4}, adapter.alpha: {<<: *a, high: 8}}}\n"
    assert load_project(write(text)).search.space["adapter.alpha"].high == 8


def test_a_name_that_no_file_system_takes_is_refused() -> None:
    with pytest.raises(ConfigError, match="no such project"):
        load_project("x" * 5000)


def test_tasks_that_are_no_names_are_refused(write: Write) -> None:
    assert "evaluation.tasks" in message(write(MINIMAL + "evaluation: {tasks: [{}, [a]]}\n"))


def test_every_choice_may_be_written_without_quotes(write: Write) -> None:
    """YAML reads `off` as false: a choice that it reads as no text must still be taken for itself."""
    keys = {key: field_at(Project, key) for key in dotted_keys(Project)}
    choices = [(key, choice) for key, field in keys.items() if field for choice in get_args(field.annotation)]
    unlike = [(key, choice) for key, choice in choices if isinstance(choice, str) and yaml.safe_load(choice) != choice]
    assert sorted(unlike) == [("data.decontaminate.action", "off"), ("tracking.diff", "off")]
    project = load_project(
        write(MINIMAL.replace("data: {", "data: {decontaminate: {action: off}, ") + "tracking: {diff: off}\n")
    )
    assert (project.data.decontaminate.action, project.tracking.diff) == ("off", "off")
    overridden = load_project(write(MINIMAL), [("data.decontaminate.action", "off"), ("tracking.diff", "off")])
    assert (overridden.data.decontaminate.action, overridden.tracking.diff) == ("off", "off")


# ---- overrides


def test_an_override_wins_over_the_file(write: Write) -> None:
    folder = write(MINIMAL + "adapter: {rank: 8}\n")
    assert load_project(folder, [("adapter.rank", "32")]).adapter.rank == 32


def test_an_override_reaches_into_a_list(write: Write) -> None:
    assert load_project(write(MINIMAL), [("data.train.0.source", "other.csv")]).data.train[0].source == "other.csv"


@pytest.mark.parametrize(
    ("key", "value", "choices"),
    [
        ("search.space.training.epochs", "{choices: [1, 3]}", {"training.epochs": [1, 3], "adapter.rank": [8, 16]}),
        ("search.space.adapter.rank", "{choices: [4]}", {"adapter.rank": [4]}),
        ("search.space.adapter.rank.choices", "[4]", {"adapter.rank": [4]}),
        ("search.space", "{training.epochs: {choices: [1]}}", {"training.epochs": [1]}),
    ],
)
def test_an_override_reaches_what_one_key_may_be_in_a_search(
    write: Write, key: str, value: str, choices: dict[str, list[int]]
) -> None:
    folder = write(MINIMAL + "search: {space: {adapter.rank: {choices: [8, 16]}}}\n")
    space = load_project(folder, [(key, value)]).search.space
    assert {name: one.choices for name, one in space.items()} == choices


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("adapter.rnak", "4", "Did you mean 'adapter.rank'?"),
        ("adapter.rank.deep", "4", "unknown key 'adapter.rank.deep'"),
        ("search.space.adapter.rnak", "{choices: [4]}", "Did you mean 'adapter.rank'?"),
        ("data.train.7.source", "x", "1 entries"),
        ("name", "[1", "not YAML"),
        ("adapter.rank", "many", "--adapter.rank is 'many', but must be a whole number"),
        ("nonsense", "1", "unknown key --nonsense"),
        ("training.checkpoints", "epochs", "is 'epochs', but must be a whole number, or 'epoch'."),
        ("training.checkpoints", "0", "is 0, but must be at least 1, or 'epoch'."),
        ("data.max_length", "long", "is 'long', but must be a whole number, or 'auto'."),
        ("evaluation.chat_template", "maybe", "is 'maybe', but must be true or false, or 'auto'."),
        ("adapter.target_modules", "3", "is 3, but must be a list, or 'all-linear'. Try all-linear"),
        ("base.quantization", "int3", "is 'int3', but must be one of 'nf4', 'int8' or 'none'."),
    ],
)
def test_a_wrong_override_is_refused(write: Write, key: str, value: str, expected: str) -> None:
    assert expected in message(write(MINIMAL + "adapter: {rank: 8}\n"), ((key, value),))


@given(key=st.text(min_size=1, max_size=20), value=st.text(max_size=20))
def test_any_override_gives_a_project_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: str
) -> None:
    folder = tmp_path_factory.mktemp("open")
    (folder / "project.yaml").write_text(MINIMAL, encoding="utf-8")
    try:
        load_project(folder, [(key, value)])
    except ConfigError as error:
        faults = error.faults
    else:
        faults = []
    assert all(str(fault) for fault in faults)


# ---- rules between sections


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("adapter: {method: full}", "base.quantization is 'nf4', but must be 'none' when adapter.method is full"),
        ("adapter: {target_parameters: [experts.w1]}", "adapters on quantised experts match nothing"),
        ("adapter: {target_modules: []}", "all-linear or at least one name"),
        ("evaluation: {primary: {arc_chalenge: acc}, tasks: [arc_challenge]}", "Did you mean 'arc_challenge'?"),
        ("promotion: {guard: {mmlu: -0.01}}", "promotion.guard names 'mmlu'"),
        ("search: {space: {adapter.rnak: {choices: [1]}}}", "Did you mean 'adapter.rank'?"),
        ("search: {space: {adapter.rank: {low: 4, high: 4}}}", "low (4.0) must be below high (4.0)"),
        ("search: {space: {training.scheduler: {low: 1, high: 2}}}", "this key is not a number"),
        ("training: {keep_best_by: score}", "Name a task in evaluation.tasks."),
        ("training: {keep_best_by: last, early_stopping_patience: 2}", "unset when training.keep_best_by is last"),
        ("training: {checkpoints: epoch, max_steps: 4}", "a number when training.max_steps is set"),
        ("training: {precision: fp16, device: cpu}", "fp32, bf16 or auto on a CPU"),
    ],
)
def test_a_rule_between_sections_is_kept(write: Write, section: str, expected: str) -> None:
    assert expected in message(write(f"{MINIMAL}{section}\n"))


def test_a_suite_stands_for_its_tasks(write: Write) -> None:
    tasks = load_project(write(MINIMAL + "evaluation: {tasks: [commonsense, piqa]}\n")).evaluation.tasks
    assert tasks.count("piqa") == 1
    assert "boolq" in tasks


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("name: x\nbase:\n\tmodel: builtin:tiny\n", "line 3, column 1"),
        ("name: x\nbase:\n  model:\tbuiltin:tiny\n", "line 3, column 9"),
        ("name: x\ndata: {train: [],\t}\n", "line 2, column 18"),
    ],
)
def test_a_tab_is_named_with_its_place(tmp_path: Path, text: str, place: str) -> None:
    (tmp_path / "project.yaml").write_text(text)
    with pytest.raises(
        ConfigError, match=rf"project\.yaml: {place}: a tab, where YAML takes spaces alone\. Put spaces"
    ):
        load_project(tmp_path)


def test_a_tab_in_an_option_is_named_too() -> None:
    with pytest.raises(ConfigError, match=r"--adapter: line 1, column 7: a tab, where YAML takes spaces alone"):
        project_from({}, "here", Path(), [("adapter", "{rank:\t4,\t}")])


REVIEWED = "name: x\nbase: {model: 'builtin:tiny'}\ndata: {train: [{source: r.csv, columns: {completion: meta}}]%s}\n"


def test_a_source_without_a_prompt_needs_a_template_of_its_own_or_of_data(write: Write) -> None:
    answers = "evaluation: {answers: [{name: a, source: t.csv, columns: {completion: meta}, metrics: [chrf]}]}\n"
    text = message(write(REVIEWED % "" + answers))
    assert "data.train.0.columns is {'completion': 'meta'}, but must be one with the column of the prompt" in text
    assert "evaluation.answers.0.columns is" in text
    project = load_project(write(REVIEWED % ", prompt_template: '{review}'" + answers))
    assert project.data.templated(project.evaluation.answers[0]).prompt_template == "{review}"


def test_a_template_that_no_source_uses_is_refused(write: Write) -> None:
    text = message(write(MINIMAL + "training: {seed: 1}\n"), (("data.prompt_template", "'{review}'"),))
    assert "--data.prompt_template is '{review}', but must be unset where every source has a prompt of its own" in text


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ([("base.offload", "{}")], "at least one amount"),
        ([("base.offload.gpu", "much")], "base.offload.gpu is 'much', but must be an amount of memory"),
        ([("base.offload.cpu", "30")], "Did you mean '30 GiB'?"),
        ([("base.offload.disk", "30 GiB")], "base.offload.disk"),
        ([("base.offload.gpu", "1 GiB"), ("base.weights", "expanded")], "base.weights is 'expanded'"),
        ([("search.space", "{base.offload.gpu: {choices: [1 GiB]}}")], "search.space names base.offload"),
    ],
)
def test_what_is_wrong_with_offloading_is_a_fault_of_the_project(
    write: Write, overrides: list[tuple[str, str]], told: str
) -> None:
    assert told in message(write(MINIMAL), tuple(overrides))


def test_one_amount_of_offloading_is_enough_and_none_is_the_default(write: Write) -> None:
    folder = write(MINIMAL)
    assert load_project(folder).base.offload is None
    offload = load_project(folder, [("base.offload.gpu", "10 GiB")]).base.offload
    assert offload is not None
    assert (offload.gpu, offload.cpu) == ("10 GiB", None)
