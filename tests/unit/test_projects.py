"""Every project of the repository is valid, can be searched, and says in its README what memory it takes."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants
from tests.stand_in import stand_in

from tunery.config.evaluation import EvaluationConfig
from tunery.config.load import load_project
from tunery.config.project import Project
from tunery.config.search import Dimension
from tunery.config.suites import MEASURES
from tunery.config.units import format_bytes
from tunery.data.reading.load import check_sources
from tunery.estimation.estimate import estimate
from tunery.evaluation.task_files import TaskYaml, own_tasks
from tunery.evaluation.tasks import check_tasks, load_tasks
from tunery.search.checks import check_search

ROOT = Path(__file__).parents[2]
# Tasks lie there too, some of which name functions.
FILES = [
    file for file in sorted(ROOT.glob("projects/**/*.yaml")) if "base" in yaml.load(file.read_text("utf-8"), TaskYaml)
]
BASES = json.loads(Path(__file__).with_name("hub_configs.json").read_text(encoding="utf-8"))
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT / "projects")))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Hub's cache as a machine has it that once asked for these models' config.json: their shapes, no weights."""
    for name, config in BASES.items():
        model = tmp_path / f"models--{name.replace('/', '--')}"
        (model / "snapshots" / "c0ffee").mkdir(parents=True)
        (model / "snapshots" / "c0ffee" / "config.json").write_text(json.dumps(config))
        (model / "refs").mkdir()
        (model / "refs" / "main").write_text("c0ffee")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))


def loaded(file: Path, folder: Path) -> Project:
    """A project; a smoke run's with the shape of its stand-in, which lies nowhere before it is made."""
    project = load_project(file)
    if project.base.model != "stand-in":
        return project
    stand_in().config(file.parent.name).save_pretrained(folder)
    return load_project(file, [("base.model", str(folder))])


@each_file
def test_a_project_is_valid_its_sources_are_there_and_it_can_be_searched(file: Path) -> None:
    project = load_project(file)
    check_sources(project.data, project.folder)
    if project.evaluation.task_folders or not project.evaluation.tasks:
        check_tasks(project.evaluation, project.folder)
    if project.search.space:
        check_search(project)


@each_file
@pytest.mark.usefixtures("hub")
def test_a_project_is_estimated_without_a_network_and_its_readme_says_the_result(file: Path, tmp_path: Path) -> None:
    project = loaded(file, tmp_path / "shape")
    needed = estimate(project, device="cuda")
    assert needed.trainable_parameters > 0
    if file.name == "project.yaml" and project.base.model in BASES:
        text = (file.parent / "README.md").read_text(encoding="utf-8")
        assert format_bytes(needed.total_bytes) in text


def test_the_first_items_of_published_hans_are_of_both_labels(tmp_path: Path) -> None:
    ways = ("lexical_overlap", "subsequence", "constituent")
    stretches = [(way, label) for way in ways for label in ("entailment", "non-entailment")]
    cells = [(label, f"p {number}", f"h {number}", way, label[:3]) for way, label in stretches for number in range(200)]
    file = tmp_path / "heuristics_evaluation_set.txt"
    head = ("gold_label", "sentence1", "sentence2", "heuristic", "subcase")
    file.write_text("".join("\t".join(row) + "\n" for row in (head, *cells)), encoding="utf-8")
    published = runpy.run_path(str(ROOT / "projects" / "nli-opt" / "tasks" / "rows.py"))["published"]
    rows = list(published(file))
    assert rows == list(published(file)), "each time the same"
    found = [(row["label"], row["premise"], row["hypothesis"], row["heuristic"], row["subcase"]) for row in rows]
    assert sorted(found) == sorted(cells)
    for way in ways:
        first = [row["label"] for row in rows if row["heuristic"] == way][:100]
        # So few of one label has a chance below 1e-7 in a fair order of 200 and 200.
        assert 25 <= first.count("entailment") <= 75


def test_hans_is_asked_by_heuristic_with_both_labels_of_each() -> None:
    folder = ROOT / "projects" / "nli-opt"
    tasks = load_tasks(EvaluationConfig(tasks=["hans"], task_folders=["tasks"]), folder, chat_template=False)
    assert len(tasks.members["hans"]) == 30
    for heuristic in ("lexical_overlap", "subsequence", "constituent"):
        members = [tasks.leaves[name] for name in tasks.members[f"hans_{heuristic}"]]
        items = [item for leaf in members for item in leaf.task.test_docs()]
        assert {item["heuristic"] for item in items} == {heuristic}
        assert {item["label"] for item in items} == {"entailment", "non-entailment"}


def test_the_readme_says_what_each_capability_measures() -> None:
    folder = ROOT / "projects" / "lima-mistral"
    text = (folder / "README.md").read_text(encoding="utf-8").replace("**", "")
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|$", text, re.MULTILINE))
    for task in load_project(folder / "capabilities.yaml").evaluation.tasks:
        assert rows[task] == MEASURES[task]
    assert "a substitute for open-ended following" in rows["ifeval"]
    assert "--evaluation.allow_code true" in rows["humaneval"]


def test_the_search_of_meta_reviews_spans_what_was_tried_by_hand() -> None:
    project = load_project(ROOT / "projects" / "meta-review-pythia")
    rate, epochs = (project.search.space[f"training.{name}"] for name in ("learning_rate", "epochs"))
    assert isinstance(rate, Dimension)
    assert isinstance(epochs, Dimension)
    assert (rate.low, rate.high, epochs.low, epochs.high) == (1e-5, 1e-3, 1, 20)
    assert project.data.max_length == 2048


def test_hans_is_asked_by_subcase_in_the_group_of_its_heuristic() -> None:
    folder = ROOT / "projects" / "nli-opt"
    own = own_tasks([folder / "tasks"])
    subcases = [(heuristic, subcase) for heuristic in own["hans"].members for subcase in own[heuristic].members]
    assert (len(own["hans"].members), len(subcases)) == (3, 30)
    for heuristic, subcase in subcases:
        (file,) = own[subcase].items
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        assert {f"hans_{row['heuristic']}" for row in rows} == {heuristic}
        assert {f"hans_{row['subcase']}".replace("/", "_") for row in rows} == {subcase}
        assert len(rows) == 16, "as many of each: the group's mean is that of its subcases"


def test_published_hans_is_written_as_a_task_and_a_file_of_items_a_subcase(tmp_path: Path) -> None:
    module = runpy.run_path(str(ROOT / "projects" / "nli-opt" / "tasks" / "rows.py"))
    for name in ("data/hans", "tasks/hans"):
        (tmp_path / name).mkdir(parents=True)
    write = module["write_hans"]
    write.__globals__.update(DATA=tmp_path / "data", TASKS=tmp_path / "tasks")
    rows = [
        {
            "premise": f"p {number}",
            "hypothesis": "h",
            "label": "entailment",
            "heuristic": "subsequence",
            "subcase": subcase,
        }
        for subcase in ("sn_NP/S", "se_adjective")
        for number in range(5)
    ]
    write(rows, 3)
    own = own_tasks([tmp_path / "tasks"])
    assert own["hans_subsequence"].members == ("hans_se_adjective", "hans_sn_NP_S")
    (file,) = own["hans_sn_NP_S"].items
    assert [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] == rows[:3]


def test_every_folder_has_a_smoke_run() -> None:
    folders = {file.parent for file in FILES if load_project(file).base.model in BASES}
    assert [folder.name for folder in sorted(folders) if not (folder / "smoke.yaml").is_file()] == []
