"""Tasks that run code which the model writes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.unit.evaluation.conftest import write_rows

from tunery.config.evaluation import EvaluationConfig
from tunery.config.suites import MEASURES, SUITES
from tunery.errors import TaskError
from tunery.evaluation.tasks import load_tasks

CODING = """
task: coding
dataset_path: json
dataset_kwargs: {data_files: {test: items.jsonl}}
output_type: generate_until
unsafe_code: true
test_split: test
doc_to_text: "{{question}}"
doc_to_target: "{{question}}"
process_docs: !function marks.documents
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""
MARKS = """
import os
from pathlib import Path


def documents(dataset):
    with Path(__file__).with_name("seen").open("a") as seen:  # read again later, when the consent is taken back
        seen.write(os.environ.get("HF_ALLOW_CODE_EVAL", "unset"))
    return dataset
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "0")
    (tmp_path / "coding.yaml").write_text(CODING)
    (tmp_path / "more.yaml").write_text("include: coding.yaml\ntask: more\n")
    (tmp_path / "marks.py").write_text(MARKS)
    write_rows(tmp_path / "items.jsonl", [{"question": f"add {number} and 1"} for number in range(3)])
    return tmp_path


@pytest.mark.parametrize("name", ["coding", "more"])
def test_code_that_the_model_writes_is_not_run_unless_a_person_allows_it(folder: Path, name: str) -> None:
    told = (
        rf"evaluation\.tasks names '{name}', which runs code that the model writes.* Set evaluation\.allow_code: true"
    )
    with pytest.raises(TaskError, match=told):
        load_tasks(EvaluationConfig(tasks=[name], task_folders=["."]), folder, False)


@pytest.mark.parametrize("name", ["longproc_countdown_2k", "longproc_countdown"])
def test_what_gives_the_answer_to_pythons_eval_is_refused_before_it_is_loaded(tmp_path: Path, name: str) -> None:
    """lm-eval's own scorer runs this answer; the group that holds only such tasks bears no mark."""
    from lm_eval.tasks.longproc import metrics

    ran = tmp_path / "ran"
    metrics._evaluate_countdown_final_solution([1, 2], 3, f"open({str(ran)!r}, 'w').close()=3\n\n")
    assert ran.exists()
    with pytest.raises(TaskError, match=rf"names '{name}', which runs code that the model writes"):
        load_tasks(EvaluationConfig(tasks=[name]), tmp_path, False)


def test_a_copy_of_such_a_task_without_the_mark_is_refused_too(folder: Path) -> None:
    text = CODING.replace("task: coding", "task: longproc_countdown_mine").replace("unsafe_code: true\n", "")
    (folder / "coding.yaml").write_text(text)
    (folder / "all.yaml").write_text("group: all_of_mine\ntask: [longproc_countdown_mine]\n")
    for name in ("longproc_countdown_mine", "all_of_mine"):
        with pytest.raises(TaskError, match="runs code that the model writes"):
            load_tasks(EvaluationConfig(tasks=[name], task_folders=["."]), folder, False)


def test_consent_is_given_as_the_libraries_want_it_and_taken_back(folder: Path) -> None:
    tasks = load_tasks(EvaluationConfig(tasks=["coding"], task_folders=["."], allow_code=True), folder, False)
    assert tasks.allow_code
    assert (folder / "seen").read_text().startswith("1"), "as while the task was loaded"
    assert os.environ["HF_ALLOW_CODE_EVAL"] == "0"


def test_the_suite_of_capabilities_has_a_coding_task_only_where_code_may_run() -> None:
    plain = EvaluationConfig(tasks=["capabilities"]).tasks
    assert plain == ["mmlu", "gsm8k_cot", "bbh_cot_fewshot", "tydiqa_goldp", "ifeval"]
    allowed = EvaluationConfig.model_validate({"tasks": ["capabilities"], "allow_code": True}).tasks
    assert allowed == [*plain, "humaneval"]
    assert EvaluationConfig(tasks=["instruct"]).tasks == ["hellaswag", "arc_challenge", "mmlu_stem", "truthfulqa_mc2"]


def test_every_task_of_the_two_suites_says_what_it_measures() -> None:
    assert {*SUITES["capabilities"], *SUITES["instruct"], "humaneval"} <= MEASURES.keys()
    assert "substitute" in MEASURES["ifeval"]
