"""Result files of others: what becomes of them, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.told import Told

from tunery.comparison.leaderboard import rank
from tunery.comparison.read import read as entries_of
from tunery.comparison.records import Board
from tunery.comparison.report.size_plots import learning_plot
from tunery.comparison.selection import Selection
from tunery.errors import InputError
from tunery.evaluation.items import item_id
from tunery.importing import importer
from tunery.importing.importer import ImportOptions, import_results, read_results
from tunery.importing.store import ImportedRun, metric_values
from tunery.runs.observer import Observer
from tunery.tracking.process import this_process
from tunery.tracking.search import search_runs
from tunery.tracking.store import Store

DATE = "2026-11-21T15-41-08.760945"
DOCUMENTS = [
    {
        "question": f"Which dish does Ralis {number} like best?",
        "options": ["crab stew", "smoked eel"],
        "gold": number % 2,
    }
    for number in range(4)
]


def lm_eval_tree(**changes: Any) -> dict[str, Any]:
    """The shape of a results_*.json of lm-eval 0.4.13, as its command line wrote it."""
    config = {
        "task": "world_facts", "doc_to_text": "{{question}}", "doc_to_target": "gold", "doc_to_choice": "{{options}}",
        "target_delimiter": " ", "output_type": "multiple_choice", "num_fewshot": 0, "repeats": 1,
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}], "metadata": {"version": 1.0},
    }  # fmt: skip
    row = {
        "name": "world_facts", "alias": "world_facts", "sample_len": 4, "acc,none": 0.5,
        "acc_stderr,none": 0.2886751345948129,
        "acc_norm,none": 0.75, "acc_norm_stderr,none": "N/A",
    }  # fmt: skip
    tree = {
        "results": {"world_facts": row},
        "group_subtasks": {},
        "configs": {"world_facts": config},
        "versions": {"world_facts": 1.0},
        "n-shot": {"world_facts": 0},
        "higher_is_better": {"world_facts": {"acc": True, "acc_norm": True}},
        "n-samples": {"world_facts": {"original": 400, "effective": 4}},
        "config": {
            "model": "hf", "model_args": {"pretrained": "acme/base", "peft": "someone/lora", "dtype": "float32"},
            "model_sha": "c0ffee", "limit": 4.0,
        },
        "date": 1795275642.86,
        "chat_template": "{{ messages }}",
        "fewshot_as_multiturn": True,
        "system_instruction_sha": None,
        "model_name": "someone/lora",
        "lm_eval_version": "0.4.13",
        "total_evaluation_time_seconds": "64.2",
    }  # fmt: skip
    return {**tree, **changes}


def write_lm_eval(folder: Path, *, samples: bool = True, **changes: Any) -> Path:
    file = folder / f"results_{DATE}.json"
    file.write_text(json.dumps(lm_eval_tree(**changes)), encoding="utf-8")
    if samples:
        lines = [
            {
                "doc_id": number, "doc": document, "target": str(document["gold"]), "filter": "none",
                "metrics": ["acc", "acc_norm"], "acc": float(number < 2), "acc_norm": float(number < 3),
            }
            for number, document in enumerate(DOCUMENTS)
        ]  # fmt: skip
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        (folder / f"samples_world_facts_{DATE}.jsonl").write_text(text, encoding="utf-8")
    return file


def peft_tree(**train: Any) -> dict[str, Any]:
    """The shape of a result of PEFT's method comparison on MetaMathQA."""
    run = {
        "created_at": "2025-06-19T19:15:35+00:00", "total_time": 1993.4, "experiment_name": "lora/some-3B-rank32",
        "peft_branch": "main",
        "train_config": {
            "model_id": "acme/some-3B", "dtype": "bfloat16", "max_steps": 5000, "seed": 7,
            "query_template": "Question: {query} Think step by step.\nAnswer:", "optimizer_kwargs": {"lr": 0.0001},
            "generation_kwargs": {"max_new_tokens": 300},
        },
        "peft_config": {
            "peft_type": "LORA", "r": 32, "use_dora": False, "revision": None,
            "target_modules": ["q", "v"],
        },
        "error_msg": "",
    }  # fmt: skip
    rows = [
        {"step": 250, "valid accuracy": 0.3, "train loss": 0.9, "train samples": 1000},
        {"step": 500, "valid accuracy": 0.4, "train loss": 0.7, "train samples": 2000},
        {"step": 500, "test accuracy": 636 / 1319, "train loss": 0.7, "train samples": 2000, "train total tokens": 9},
    ]
    info = {
        "accelerator_memory_max": 22, "train_time": 1796.2, "file_size": 36, "num_trainable_params": 9175040,
        "status": "success", "metrics": rows,
    }  # fmt: skip
    meta = {"model_info": {"sha": "13afe5"}, "dataset_info": {"gsm8k": {"sha": "e53f04"}, "metamath": {"sha": "aa4f"}}}
    return {"run_info": run, "train_info": {**info, **train}, "meta_info": meta}


def read(*places: Path, **options: Any) -> list[ImportedRun]:
    return read_results(places, ImportOptions(**options), Observer())


def saved(folder: Path, tree: Mapping[str, Any] | str, name: str = "file.json") -> Path:
    file = folder / name
    file.write_text(tree if isinstance(tree, str) else json.dumps(tree), encoding="utf-8")
    return file


# ---- lm-eval


def test_rows_without_seeds_are_repetitions_of_their_settings_with_their_spread(tmp_path: Path, store: Store) -> None:
    table = tmp_path / "results.csv"
    cells = [(way, rows, model, 0.5 + rows / 100 + time / 50) for way in ("icl", "full") for rows in (2, 16)
             for model in ("opt-125m",) for time in range(3)]  # fmt: skip
    table.write_text("method,samples,base,acc\n" + "".join(f"{','.join(map(str, row))}\n" for row in cells))
    columns = {"train_rows": "samples", "mnli/acc": "acc"}
    options = ImportOptions(repeats=True, columns=columns)
    assert len(import_results([table], options, Observer(), tracking_uri=store.uri)) == 12
    board = rank(entries_of(replace(store, experiment="imports"), Selection())[0]).main
    assert {(one.name, one.seeds) for one in board.contenders} == {
        (f"{way} rows={rows}", 3) for way in ("icl", "full") for rows in (2, 16)
    }
    assert board.contenders[0].score.spread == pytest.approx(0.02)
    assert {"icl", "full"} <= set(figures_of(board))
    with pytest.raises(InputError, match="--repeats: the column 'seed' numbers the repetitions"):
        read(saved(tmp_path, "method,seed,acc\nicl,1,0.5\n", "seeded.csv"), repeats=True, columns={"mnli/acc": "acc"})


def test_a_table_with_and_without_repeats_is_two_imports(tmp_path: Path, store: Store) -> None:
    table = saved(tmp_path, "method,acc\nicl,0.5\nicl,0.6\n", "results.csv")
    made = [
        import_results(
            [table], ImportOptions(repeats=repeats, columns={"mnli/acc": "acc"}), Observer(), tracking_uri=store.uri
        )
        for repeats in (False, True, True, False)
    ]
    assert [len(runs) for runs in made] == [2, 2, 0, 0]
    seeds = [store.client.get_run(run_id).data.params.get("import.seed") for run_id in made[1]]
    assert seeds == ["0", "1"]


def figures_of(board: Board) -> list[str]:
    """The lines of a board's learning curves."""
    figure = learning_plot(board, 0.95)
    assert figure is not None
    return list(figure.axes[0].get_legend_handles_labels()[1])


def test_a_result_file_of_lm_eval_is_read_with_its_conditions(tmp_path: Path) -> None:
    [found] = read(write_lm_eval(tmp_path))
    assert (found.name, found.base, found.method, found.time_ms) == (
        "someone/lora",
        "acme/base",
        "adapter",
        1795275642860,
    )
    task = found.tasks["world_facts"]
    assert (task.metric, task.values) == ("acc", {"acc": 0.5, "acc_norm": 0.75})
    assert task.stderrs == {"acc": 0.2886751345948129}, "N/A is no error, and not 0"
    conditions = dict(task.conditions)
    assert len(str(conditions.pop("items"))) == 32
    assert len(str(conditions.pop("prompt"))) == 12
    assert conditions == {"version": "1.0", "few_shot": 0, "limit": 4, "chat_template": True, "count": 4}
    assert found.note == "Scored world_facts on 4 of 400 items."


def test_imported_items_have_the_names_that_our_own_runs_give_them(tmp_path: Path) -> None:
    [found] = read(write_lm_eval(tmp_path))
    samples = found.tasks["world_facts"].samples
    assert samples is not None
    # The target is the number in the document, though the file holds it as a text.
    assert samples["item_id"].tolist() == [item_id("world_facts", one, one["gold"]) for one in DOCUMENTS]
    assert samples["acc"].tolist() == [1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("config", "text", "native"),
    [
        ({"doc_to_target": "{{gold}}", "doc_to_choice": ["a", "b"]}, "1", 1),
        ({"doc_to_target": "{{gold}}"}, "1", "1"),
        ({"doc_to_target": 0, "doc_to_choice": ["a", "b"]}, "0", 0),
        ({"doc_to_target": "{{golds}}"}, "['a', 'b']", ["a", "b"]),
        ({"doc_to_target": "def gold(doc):\n    return 1\n", "doc_to_choice": ["a"]}, "1", 1),
    ],
)
def test_targets_get_the_type_that_lm_eval_gave_them(config: dict[str, Any], text: str, native: object) -> None:
    from tunery.importing.lm_eval.samples import _target

    assert _target({"doc": {"golden": 1}, "target": text}, config) == native


def test_a_result_file_without_samples_stands_by_its_errors(tmp_path: Path) -> None:
    [found] = read(write_lm_eval(tmp_path, samples=False))
    assert found.tasks["world_facts"].samples is None
    assert "items" not in found.tasks["world_facts"].conditions
    assert "Without samples: world_facts." in found.note


def test_samples_of_another_date_are_not_taken(tmp_path: Path) -> None:
    file = write_lm_eval(tmp_path)
    later = file.rename(file.with_name("results_2027-01-01T00-00-00.000001.json"))
    assert read(later)[0].tasks["world_facts"].samples is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"n-samples": {"world_facts": {"original": 400, "effective": 400}}}, "they are 4 of 400 items"),
        ({"results": {"world_facts": {"alias": "world_facts", "acc,none": 0.9}}}, "their acc is 0.5000, not 0.9000"),
    ],
)
def test_samples_that_the_score_was_not_made_of_are_not_taken(
    tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    [found] = read(write_lm_eval(tmp_path, **changes))
    assert found.tasks["world_facts"].samples is None
    assert "items" not in found.tasks["world_facts"].conditions
    assert f"Its samples of world_facts are of something else: {why}." in found.note


def test_leaf_tasks_of_a_group_do_not_count_beside_it(tmp_path: Path) -> None:
    results = {
        "isles": {"acc,none": 0.5, "alias": "isles"},
        "east": {"acc,none": 0.4, "alias": " - east"},
        "west": {"acc,none": 0.6, "alias": " - west"},
    }
    [found] = read(write_lm_eval(tmp_path, samples=False, results=results, group_subtasks={"isles": ["east", "west"]}))
    assert {name: task.counts for name, task in found.tasks.items()} == {"isles": True, "east": False, "west": False}


def counting(found: ImportedRun) -> set[str]:
    return {name for name, task in found.tasks.items() if task.counts}


def rows(**scores: float | str) -> dict[str, Any]:
    """Results by task; a text stands where a group has no score."""
    return {
        name: {"alias": name, " ": " "} if isinstance(value, str) else {"acc,none": value, "alias": name}
        for name, value in scores.items()
    }


# As real files have it: mmlu > 4 groups > 57 tasks, and Open LLM Leaderboard 2, whose outermost group has no score.
@pytest.mark.parametrize(
    ("results", "groups", "expected", "score"),
    [
        (
            rows(top=0.4, sub=0.2, sub2=0.8, a=0.1, b=0.3, c=0.8),
            {"top": ["sub", "sub2"], "sub": ["a", "b"], "sub2": ["c"]},
            {"top"},
            0.4,
        ),
        (
            rows(board=" ", sub=0.2, a=0.1, b=0.3, ifeval=0.8, pro=0.9),
            {"board": ["sub", "ifeval", "pro"], "sub": ["a", "b"]},
            {"sub", "ifeval", "pro"},
            (0.2 + 0.8 + 0.9) / 3,
        ),
        (
            rows(board="N/A", middle=" ", sub=0.2, a=0.1, b=0.3, c=0.8),
            {"board": ["middle"], "middle": ["sub", "c"], "sub": ["a", "b"]},
            {"sub", "c"},
            0.5,
        ),
        (rows(top=0.4, middle=" ", a=0.3, b=0.5), {"top": ["middle"], "middle": ["a", "b"]}, {"top"}, 0.4),
    ],
)
def test_the_outermost_group_with_a_number_decides_the_score(
    tmp_path: Path, results: dict[str, Any], groups: dict[str, list[str]], expected: set[str], score: float
) -> None:
    [found] = read(write_lm_eval(tmp_path, samples=False, results=results, group_subtasks=groups))
    assert counting(found) == expected
    assert metric_values(found)["score"] == pytest.approx(score)


def test_a_file_of_lm_eval_0_3_has_no_filters_no_groups_and_one_few_shot_number_for_all(tmp_path: Path) -> None:
    tree = {
        "results": {
            "arc_challenge": {"acc": 0.25, "acc_stderr": 0.01, "acc_norm": 0.5, "acc_norm_stderr": 0.02},
            "wikitext": {"word_perplexity": 12.5, "byte_perplexity": 1.5},
        },
        "versions": {"arc_challenge": 0, "wikitext": 1},
        "config": {
            "model": "hf-causal-experimental", "model_args": "pretrained=acme/base,use_accelerate=True",
            "num_fewshot": 25, "limit": None, "bootstrap_iters": 100000, "description_dict": {},
        },
    }  # fmt: skip
    [found] = read(saved(tmp_path, tree))
    task = found.tasks["arc_challenge"]
    assert (found.base, found.method, counting(found)) == ("acme/base", "none", {"arc_challenge", "wikitext"})
    assert (task.values, task.stderrs) == ({"acc": 0.25, "acc_norm": 0.5}, {"acc": 0.01, "acc_norm": 0.02})
    assert task.conditions == {"version": "0", "few_shot": 25, "limit": None, "chat_template": False}
    assert not found.tasks["wikitext"].higher_is_better


def test_groups_of_lm_eval_0_4_0_are_read_from_the_indentation_of_their_names(tmp_path: Path) -> None:
    results = {
        name: {"acc,none": value, "acc_stderr,none": error, "alias": alias}
        for name, alias, value, error in (
            ("mmlu", "mmlu", 0.4, 0.1186),
            ("mmlu_stem", " - stem", 0.3, 0.1175),
            ("mmlu_algebra", "  - algebra", 0.3, 0.04),
            ("mmlu_other", " - other", 0.5, 0.1007),
            ("mmlu_law", "  - law", 0.5, 0.05),
            ("piqa", "piqa", 0.7, 0.01),
        )
    }
    tree = lm_eval_tree(results=results)
    for key in ("group_subtasks", "n-samples", "higher_is_better", "chat_template", "lm_eval_version"):
        del tree[key]
    [found] = read(saved(tmp_path, tree))
    assert counting(found) == {"mmlu", "piqa"}
    # Its errors of groups were 30 times the right ones.
    assert [name for name, task in found.tasks.items() if not task.stderrs] == ["mmlu", "mmlu_stem", "mmlu_other"]
    assert "Without the errors of mmlu, mmlu_stem, mmlu_other" in found.note
    assert found.tasks["piqa"].conditions["chat_template"] is False


def test_the_metric_of_a_group_is_the_one_that_its_tasks_name_first(tmp_path: Path) -> None:
    # lm-eval 0.4.2 wrote a group's metrics in the order of a set.
    results = {"ai2_arc": {"acc_norm,none": 0.6, "acc,none": 0.5}, "arc_easy": {"acc,none": 0.5, "acc_norm,none": 0.6}}
    configs = {"arc_easy": {"task": "arc_easy", "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}]}}
    changes = {"results": results, "configs": configs, "group_subtasks": {"ai2_arc": ["arc_easy"]}}
    [found] = read(write_lm_eval(tmp_path, samples=False, **changes))
    assert found.tasks["ai2_arc"].metric == "acc"


@pytest.mark.parametrize(
    "row",
    [
        {"alias": "quiz", " ": " "},
        {"alias": "quiz", " ,none": " "},
        {"acc,none": "N/A", "acc_stderr,none": "N/A"},
        {"acc,none": None},
        {"bypass,none": 999, "bypass_stderr,none": "N/A"},
        {"sample_len": 4, "sample_count": {"acc,none": 4}},
        {"samples": 4},
    ],
)
def test_what_lm_eval_writes_where_there_is_no_score_is_no_score(tmp_path: Path, row: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="holds no score"):
        read(write_lm_eval(tmp_path, samples=False, results={"quiz": row}))


BACKENDS: list[tuple[str, object, tuple[str, str, str, str | None]]] = [
    ("hf", "pretrained=acme/base,peft=someone/lora", ("someone/lora", "acme/base", "adapter", "none")),
    ("hf", {"pretrained": "acme/base", "peft": None}, ("acme/base", "acme/base", "none", "none")),
    ("hf", "pretrained=acme/base,peft=None", ("acme/base", "acme/base", "none", "none")),
    ("hf", "pretrained=acme/base,delta=acme/delta", ("acme/delta", "acme/base", "adapter", "none")),
    ("hf", '{"pretrained": "acme/base", "load_in_8bit": true}', ("acme/base", "acme/base", "none", "int8")),
    ("hf", "pretrained=acme/base,autogptq=True", ("acme/base", "acme/base", "none", "gptq")),
    ("hf", "pretrained=acme/base,gguf_file=base.Q4_K_M.gguf", ("acme/base", "acme/base", "none", "gguf")),
    ("vllm", "pretrained=acme/base,enable_lora=True,lora_local_path=/runs/my-lora", (
        "my-lora", "acme/base", "adapter", "none",
    )),
    ("vllm", "pretrained=acme/base,quantization=awq", ("acme/base", "acme/base", "none", "awq")),
    ("sglang", "pretrained=acme/base,lora_paths=someone/lora", ("someone/lora", "acme/base", "adapter", "none")),
    ("steered", "pretrained=acme/base,steer_path=vectors.pt", ("vectors.pt", "acme/base", "adapter", "none")),
    ("local-completions", "model=acme/base,base_url=http://localhost:8000/v1/completions", (
        "acme/base", "acme/base", "none", None,
    )),
    ("openai-completions", "model=davinci-002", ("davinci-002", "davinci-002", "none", None)),
    ("gpt3", "engine=davinci", ("davinci", "davinci", "none", None)),
    ("nemo_lm", "path=/models/base.nemo", ("base.nemo", "/models/base.nemo", "none", None)),
    ("megatron_lm", {"load": "/models/megatron"}, ("megatron", "/models/megatron", "none", None)),
    ("watsonx_llm", "model_id=ibm/granite", ("ibm/granite", "ibm/granite", "none", None)),
    ("gguf", "base_url=http://localhost:8000", ("http://localhost:8000", "http://localhost:8000", "none", None)),
    ("acme/base", None, ("acme/base", "acme/base", "none", None)),
    ("HFLM", None, ("unknown", "unknown", "none", None)),
]  # fmt: skip


@pytest.mark.parametrize(("backend", "told", "expected"), BACKENDS)
def test_every_backend_names_its_base_and_adapter_in_its_own_way(
    tmp_path: Path, backend: str, told: object, expected: tuple[str, str, str, str | None]
) -> None:
    config = {"model": backend, "model_args": told, "limit": None}
    # Where lm-eval knows no name it makes one up.
    [found] = read(write_lm_eval(tmp_path, samples=False, config=config, model_name="wise-heron-1f3a"))
    assert (found.name, found.base, found.method, found.settings.get("quantization")) == expected


def test_a_model_of_which_only_the_server_is_known_is_told(tmp_path: Path) -> None:
    config = {"model": "gguf", "model_args": "base_url=http://localhost:8000", "limit": None}
    [found] = read(write_lm_eval(tmp_path, samples=False, config=config))
    assert "not which model: name it with --base" in found.note


@pytest.mark.parametrize(
    ("backend", "template", "expected"),
    [
        ("hf", "{{ messages }}", True), ("hf", None, False), ("hf", "", False),
        ("local-chat-completions", "", True), ("local-completions", "", False),
    ],
)  # fmt: skip
def test_a_server_that_chats_asks_through_its_own_template(
    tmp_path: Path, backend: str, template: str | None, expected: bool
) -> None:
    config = {"model": backend, "model_args": "model=acme/base", "limit": None}
    [found] = read(write_lm_eval(tmp_path, samples=False, config=config, chat_template=template))
    assert found.tasks["world_facts"].conditions["chat_template"] is expected


def grouped(folder: Path, leaf: float, text: str = "{{q}}", **changes: Any) -> dict[str, object]:
    """Conditions of a group whose own version is always 2.0, as that of mmlu_pro is."""
    folder.mkdir(exist_ok=True)
    tree = {
        "results": {"pro": {"acc,none": 0.5}, "pro_law": {"acc,none": 0.5}},
        "group_subtasks": {"pro": ["pro_law"]},
        "configs": {"pro_law": {"task": "pro_law", "doc_to_text": text}},
        "versions": {"pro": 2.0, "pro_law": leaf},
        "n-shot": {"pro_law": 5},
    }
    [found] = read(write_lm_eval(folder, samples=False, **{**tree, **changes}))
    return dict(found.tasks["pro"].conditions)


def test_a_group_is_set_apart_when_its_tasks_changed_though_its_own_version_did_not(tmp_path: Path) -> None:
    # mmlu_pro is 2.0 in every lm-eval; its tasks are 2.1 in 0.4.9, 3.0 in 0.4.10 and 3.1 from 0.4.12 on.
    old, new = grouped(tmp_path / "old", 3.0), grouped(tmp_path / "new", 3.1)
    assert (old.pop("members"), new.pop("members")) == ("3.0", "3.1")
    assert old == new
    assert (old["version"], old["few_shot"]) == ("2.0", 5)
    assert grouped(tmp_path / "asked", 3.1, "Q: {{q}}")["prompt"] != new["prompt"]


@pytest.mark.parametrize("told", ["N/A", None, "Yaml"])
def test_a_version_that_is_none_says_nothing(tmp_path: Path, told: str | None) -> None:
    found = grouped(tmp_path, 1.0, versions={"pro": told, "pro_law": told})
    assert not {"version", "members"} & set(found)


def test_a_function_of_a_task_is_the_same_prompt_at_every_address(tmp_path: Path) -> None:
    texts = [f"functools.partial(<function ask at {place}>, answer=False)" for place in ("0x7f01", "0x7f02")]
    first, second = (grouped(tmp_path / text[-20:-16], 3.1, text)["prompt"] for text in texts)
    assert first == second


TEST_ONLY = {"test_split": "test"}
FIRST = {**TEST_ONLY, "fewshot_split": "test", "fewshot_config": {"sampler": "first_n"}}


@pytest.mark.parametrize(
    ("splits", "release", "shots", "is_apart"),
    [
        (TEST_ONLY, "0.4.13", 5, True),
        (TEST_ONLY, "0.4.13", 0, False),
        ({**TEST_ONLY, "training_split": "train"}, "0.4.13", 5, False),
        ({**TEST_ONLY, "fewshot_split": "test"}, "0.4.11", 5, False),
        ({**TEST_ONLY, "fewshot_config": {"samples": [{}]}}, "0.4.13", 5, False),
        ({"validation_split": "validation"}, "0.4.13", 5, False),
        ({"validation_split": "validation", "fewshot_split": "validation"}, "0.4.13", 5, True),
        (FIRST, "0.4.9.2", 5, False),
        (FIRST, "0.4.10", 5, True),
        (FIRST, "0.4.12", 5, True),
        (FIRST, "0.4.13", 5, False),
    ],
)
def test_scores_with_items_in_their_own_prompts_are_set_apart(
    tmp_path: Path, splits: dict[str, Any], release: str, shots: int, is_apart: bool
) -> None:
    config = {"task": "quiz", "doc_to_text": "{{q}}", **splits}
    changes = {"configs": {"quiz": config}, "versions": {"quiz": 1.0}, "n-shot": {"quiz": shots}}
    results = {"quiz": {"acc,none": 0.5}}
    [found] = read(write_lm_eval(tmp_path, samples=False, results=results, lm_eval_version=release, **changes))
    apart = "1.0 where an item may stand in its own prompt"
    assert found.tasks["quiz"].conditions["version"] == (apart if is_apart else "1.0")


def test_several_filters_have_a_metric_each_as_in_our_own_runs(tmp_path: Path) -> None:
    row = {"exact_match,strict-match": 0.4, "exact_match,flexible-extract": 0.5, "exact_match_stderr,strict-match": 0.1}
    [found] = read(write_lm_eval(tmp_path, samples=False, results={"gsm8k": row}))
    task = found.tasks["gsm8k"]
    assert task.values == {"exact_match.strict-match": 0.4, "exact_match.flexible-extract": 0.5}
    assert task.stderrs == {"exact_match.strict-match": 0.1}


@pytest.mark.parametrize("told", ["pretrained=acme/base,peft=someone/lora,load_in_4bit=True,bnb_4bit_quant_type=nf4"])
def test_model_arguments_are_read_from_a_text_too(tmp_path: Path, told: str) -> None:
    [found] = read(write_lm_eval(tmp_path, config={"model": "hf", "model_args": told, "limit": None}))
    assert (found.base, found.method, found.settings["quantization"]) == ("acme/base", "adapter", "nf4")


def test_a_score_that_is_no_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"world_facts: acc is nan, but must be finite"):
        read(write_lm_eval(tmp_path, samples=False, results={"world_facts": {"acc,none": math.nan}}))


def test_a_result_file_without_scores_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no score; its results name world_facts"):
        read(write_lm_eval(tmp_path, samples=False, results={"world_facts": {"alias": "world_facts"}}))


def test_a_line_that_is_no_sample_is_named(tmp_path: Path) -> None:
    file = write_lm_eval(tmp_path)
    with (tmp_path / f"samples_world_facts_{DATE}.jsonl").open("a") as samples:
        samples.write('{"answer": 1}\n')
    with pytest.raises(InputError, match=r"samples_world_facts.*:5: is no sample of lm-eval"):
        read(file)


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\u0085"])
def test_an_answer_may_hold_any_sign_that_python_takes_for_a_line_break(tmp_path: Path, sign: str) -> None:
    file = write_lm_eval(tmp_path)
    samples = tmp_path / f"samples_world_facts_{DATE}.jsonl"
    samples.write_text(samples.read_text().replace("Which dish", f"Which{sign}dish") + "\n", encoding="utf-8")
    frame = read(file)[0].tasks["world_facts"].samples
    assert frame is not None
    assert len(frame) == len(DOCUMENTS)


@pytest.mark.parametrize(
    "key", ["versions", "configs", "n-samples", "n-shot", "higher_is_better", "group_subtasks", "date"]
)
def test_what_a_result_file_does_not_say_may_be_null(tmp_path: Path, key: str) -> None:
    [found] = read(write_lm_eval(tmp_path, samples=False, **{key: None}))
    assert found.tasks["world_facts"].values["acc"] == 0.5


@pytest.mark.parametrize(
    "part",
    [
        {"results": {"world_facts": 1}},
        {"configs": {"world_facts": 3}},
        {"configs": {"world_facts": {"metric_list": 5}}},
        {"n-samples": {"world_facts": 5}},
        {"group_subtasks": {"world_facts": ["world_facts"]}},
    ],
)
def test_a_part_of_a_result_file_that_is_not_what_it_must_be_is_a_fault(tmp_path: Path, part: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=rf"results_{DATE}\.json: a part of it is not what it must be"):
        read(write_lm_eval(tmp_path, samples=False, **part))


def test_of_perplexity_less_is_better_where_an_older_file_says_nothing(tmp_path: Path) -> None:
    results = {"wiki": {"word_perplexity,none": 12.5}}
    [found] = read(write_lm_eval(tmp_path, samples=False, results=results, higher_is_better=None))
    assert not found.tasks["wiki"].higher_is_better


def test_a_date_that_is_no_number_is_no_date(tmp_path: Path) -> None:
    assert read(write_lm_eval(tmp_path, date="2024-01-01"))[0].time_ms == 0


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (b"\xff\xfe{}", r"samples_world_facts_.*jsonl: cannot be read"),
        (b'{"doc_id": 0, "doc": {}, "target": "x", "metrics": 5}', "a part of it is not what it must be"),
        (b'{"doc_id": 0, "doc": {}, "target": "x"}\n{"doc_id": "a", "doc": {}, "target": "x"}', "a part of it is not"),
    ],
)
def test_samples_that_cannot_be_read_are_a_fault(tmp_path: Path, samples: bytes, message: str) -> None:
    file = write_lm_eval(tmp_path)
    (tmp_path / f"samples_world_facts_{DATE}.jsonl").write_bytes(samples)
    with pytest.raises(InputError, match=message):
        read(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "is not JSON"),
        ('{"score": 1, "model": "x"}', "is no result file: its keys are model, score"),
        ("[1, 2]", "is no result file: it is no JSON object"),
        ("not json", "is not JSON"),
    ],
)
def test_a_file_that_is_no_result_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(saved(tmp_path, text))


def test_a_samples_file_alone_names_the_file_that_is_wanted(tmp_path: Path) -> None:
    write_lm_eval(tmp_path)
    with pytest.raises(InputError, match=r"Name the results_\*\.json beside it"):
        read(tmp_path / f"samples_world_facts_{DATE}.jsonl")


# ---- PEFT


def test_a_result_of_pefts_comparison_is_read(tmp_path: Path) -> None:
    [found] = read(saved(tmp_path, peft_tree()))
    assert (found.name, found.base, found.base_revision) == ("lora/some-3B-rank32", "acme/some-3B", "13afe5")
    assert (found.method, found.trained_on, found.seed, found.train_rows) == ("lora", "MetaMathQA", 7, 2000)
    task = found.tasks["gsm8k"]
    assert task.values == {"accuracy": 636 / 1319}
    p = 636 / 1319
    assert task.stderrs["accuracy"] == pytest.approx(math.sqrt(p * (1 - p) / 1318))
    assert task.conditions["items"] == "gsm8k@e53f04"
    assert found.metrics == {
        "train_seconds": 1796.2, "peak_memory_bytes": 22.0, "trainable_parameters": 9175040.0, "model_bytes": 36.0,
    }  # fmt: skip
    assert found.curves["train/loss"] == [(250, 0.9), (500, 0.7)]
    assert found.settings["adapter.r"] == "32"
    assert "training.seed" not in found.settings


def test_older_files_of_peft_name_memory_by_cuda(tmp_path: Path) -> None:
    tree = peft_tree()
    tree["train_info"]["cuda_memory_max"] = tree["train_info"].pop("accelerator_memory_max")
    assert read(saved(tmp_path, tree))[0].metrics["peak_memory_bytes"] == 22.0


def test_a_peft_experiment_that_failed_is_refused_alone_and_passed_over_in_a_folder(tmp_path: Path) -> None:
    failed = saved(tmp_path, peft_tree(status="failed"), "failed.json")
    with pytest.raises(InputError, match=r"train_info.status is 'failed', but must be 'success'"):
        read(failed)
    saved(tmp_path, peft_tree(), "good.json")
    assert [one.source for one in read(tmp_path)] == ["good.json"]


def test_another_comparison_of_peft_is_told_apart(tmp_path: Path) -> None:
    rows = [{"step": 1, "clip score": 0.4}]
    with pytest.raises(InputError, match=r"no 'test accuracy'; it has clip score, step"):
        read(saved(tmp_path, peft_tree(metrics=rows)))


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"metrics": [3]}, "a part of it is not what it must be"),
        ({"metrics": [{"test accuracy": 85.0}]}, r"test accuracy is 85\.0, but must be a share from 0 to 1"),
        ({"metrics": [{"test accuracy": 0.5, "train samples": "many"}]}, "a part of it is not what it must be"),
    ],
)
def test_a_broken_result_of_pefts_comparison_is_a_fault(tmp_path: Path, train: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(saved(tmp_path, peft_tree(**train)))


@pytest.mark.parametrize("part", [{"train_config": [1]}, {"peft_config": "x"}, {"train_config": {"seed": "abc"}}])
def test_settings_of_pefts_comparison_that_are_none_are_a_fault(tmp_path: Path, part: dict[str, Any]) -> None:
    tree = peft_tree()
    with pytest.raises(InputError, match="a part of it is not what it must be"):
        read(saved(tmp_path, {**tree, "run_info": {**tree["run_info"], **part}}))


def test_a_step_without_a_loss_is_no_point_of_the_curve(tmp_path: Path) -> None:
    rows = [{"step": 1, "train loss": None}, {"step": 2, "train loss": 0.5}, {"test accuracy": 0.5}]
    [found] = read(saved(tmp_path, peft_tree(metrics=rows)))
    assert found.curves == {"train/loss": [(2, 0.5)]}


# ---- tables


def test_every_row_of_a_table_is_a_run(tmp_path: Path) -> None:
    header = "name,base,method,trained_on,seed,quiz/acc,quiz/acc_stderr,base/quiz/acc,quiz/items,lr"
    text = f"{header}\nA,b,lora,d,1,0.5,0.1,0.4,100,1e-4\nB,b,lora,d,2,60%,,,,\n"
    first, second = read(saved(tmp_path, text, "table.csv"))
    task = first.tasks["quiz"]
    assert (first.name, first.base, first.method, first.trained_on, first.seed) == ("A", "b", "lora", "d", 1)
    assert (task.values, task.stderrs, task.base) == ({"acc": 0.5}, {"acc": 0.1}, {"acc": 0.4})
    assert task.conditions == {"count": 100}
    assert first.settings == {"lr": "1e-4"}
    assert (second.tasks["quiz"].values, second.tasks["quiz"].stderrs) == ({"acc": 0.6}, {})
    assert second.source == "table.csv:3"


def test_columns_are_mapped_by_name(tmp_path: Path) -> None:
    file = saved(tmp_path, "Model;Accuracy\nfirst;0.5\n", "published.csv")
    [found] = read(file, columns={"name": "Model", "score": "Accuracy"}, task="quiz")
    assert (found.name, found.tasks["quiz"].values) == ("first", {"score": 0.5})


def test_of_perplexity_less_is_better(tmp_path: Path) -> None:
    [found] = read(saved(tmp_path, "name,wiki/word_perplexity\nA,12.5\n", "t.csv"))
    assert not found.tasks["wiki"].higher_is_better


@pytest.mark.parametrize("metric", ["wer", "rmse", "brier_score", "eval_loss", "bits_per_byte"])
def test_errors_are_known_by_their_name(tmp_path: Path, metric: str) -> None:
    [found] = read(saved(tmp_path, f"name,speech/{metric}\nA,0.2\n", "t.csv"))
    assert not found.tasks["speech"].higher_is_better


def test_a_column_that_is_mapped_to_score_keeps_its_own_direction(tmp_path: Path) -> None:
    [found] = read(saved(tmp_path, "name,Eval Loss\nA,0.2\n", "t.csv"), columns={"score": "Eval Loss"})
    assert not found.tasks["t"].higher_is_better


def test_a_direction_can_be_said_and_is_another_import(tmp_path: Path) -> None:
    file = saved(tmp_path, "name,speech/latency,speech/acc\nA,0.2,0.5\n", "t.csv")
    [plain], [told] = read(file), read(file, lower=("latency",))
    assert plain.tasks["speech"].higher_is_better
    assert told.tasks["speech"].lower_is_better == {"latency"}
    assert plain.digest != told.digest


def test_a_direction_of_a_metric_that_is_nowhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--lower: there is no metric 'latencie'\. Did you mean 'latency'\?"):
        read(saved(tmp_path, "name,speech/latency\nA,0.2\n", "t.csv"), lower=("latencie",))


@pytest.mark.parametrize(
    ("header", "cell", "value"),
    [("quiz/acc", "71.2%", 0.712), ("Accuracy (%)", "71.2", 0.712), ("Points", "71.2", 71.2)],
)
def test_percent_is_read_where_the_cell_or_the_heading_says_so(
    tmp_path: Path, header: str, cell: str, value: float
) -> None:
    columns = {"quiz/acc": "quiz/acc"} if header == "quiz/acc" else {"score": header}
    [found] = read(saved(tmp_path, f"name,{header}\nA,{cell}\n", "t.csv"), columns=columns, task="quiz")
    assert list(found.tasks["quiz"].values.values()) == [pytest.approx(value)]


@pytest.mark.parametrize(
    ("column", "cell", "rule"),
    [
        ("quiz/acc", "71.2", "from 0 to 1, or written with %"),
        ("quiz/acc_norm", "-0.1", "from 0 to 1, or written with %"),
        ("quiz/acc_stderr", "1.5", "from 0 to 1, or written with %"),
        ("score_stderr", "-1", "a number of 0 or more"),
        ("seed", "1.5", "a whole number of 0 or more"),
        ("quiz/items", "-3", "a whole number of 0 or more"),
        ("quiz/few_shot", "2.5", "a whole number of 0 or more"),
    ],
)
def test_a_number_that_cannot_be_is_refused(tmp_path: Path, column: str, cell: str, rule: str) -> None:
    with pytest.raises(InputError) as raised:
        read(saved(tmp_path, f"name,score,{column}\nA,0.5,{cell}\n", "t.csv"))
    assert f"line 2, column '{column}' is '{cell}', but must be {rule}" in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,score\nlora,0,85\n", r"line 2 has 3 cells, the heading 2\. Quote cells that hold a comma"),
        ("name,score,score\nA,0.1,0.9\n", "2 columns are called 'score'"),
        ("name,quiz/f1,lm_eval/quiz/f1\nA,0.1,0.9\n", "the columns 'quiz/f1', 'lm_eval/quiz/f1' hold one number twice"),
        (f"name,score\n{'x' * 200_000},0.2\n", "cannot be read"),
    ],
)
def test_a_table_of_which_a_part_would_be_lost_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(saved(tmp_path, text, "t.csv"))


def test_empty_cells_beyond_the_heading_and_empty_lines_are_nothing(tmp_path: Path) -> None:
    [found] = read(saved(tmp_path, "name,score\n\nA,0.5,,\n", "t.csv"))
    assert (found.name, found.source) == ("A", "t.csv:3")


def test_a_cell_may_hold_a_line_break_or_what_python_takes_for_one(tmp_path: Path) -> None:
    found = read(saved(tmp_path, 'name,score\n"two\nlines",0.5\none\u2028line,0.6\n', "t.csv"))
    assert [one.name for one in found] == ["two\nlines", "one\u2028line"]


def test_no_cell_of_a_table_is_guessed_to_be_something_else(tmp_path: Path) -> None:
    [found] = read(saved(tmp_path, "name,version,empty,score\n007,3.10,NaN,0.5\n", "t.csv"))
    assert (found.name, found.settings) == ("007", {"version": "3.10", "empty": "NaN"})


def test_a_quote_that_is_not_closed_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read(saved(tmp_path, 'name,score\n"A,0.5\n', "t.csv"))


REPEATED = "name,quiz/f1\nlora,0.5\nlora,0.6\nfull,0.7\n"


def test_rows_that_nothing_tells_apart_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        read(saved(tmp_path, REPEATED, "t.csv"))
    assert "2 runs are called 'lora' and differ in no setting and no seed (t.csv:2, t.csv:3)" in str(raised.value)


def test_one_name_for_all_rows_of_a_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 runs are called 'ours'"):
        read(saved(tmp_path, "name,quiz/f1\nA,0.5\nB,0.6\n", "t.csv"), name="ours")


@pytest.mark.parametrize("column", ["seed", "lr"])
def test_a_seed_or_a_setting_tells_rows_of_one_name_apart(tmp_path: Path, column: str) -> None:
    assert len(read(saved(tmp_path, f"name,{column},score\nlora,0,0.5\nlora,1,0.5\n", "t.csv"))) == 2


@pytest.mark.parametrize(("cell", "method"), [("none", "none"), ("None", "none"), ("", "unknown"), ("lora", "lora")])
def test_a_model_that_was_not_trained_has_the_method_none(tmp_path: Path, cell: str, method: str) -> None:
    assert read(saved(tmp_path, f"name,method,score\nA,{cell},0.5\n", "t.csv"))[0].method == method


def test_a_bare_model_has_no_seed_that_could_tell_rows_apart(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 runs are called 'base'"):
        read(saved(tmp_path, "name,method,seed,score\nbase,none,0,0.5\nbase,none,1,0.6\n", "t.csv"))


@pytest.mark.parametrize(("header", "counts"), [("name,seed,lr", True), ("label,seed,lr", False)])
def test_only_a_name_that_the_table_gives_makes_a_configuration(tmp_path: Path, header: str, counts: bool) -> None:
    file = saved(tmp_path, f"{header},score\nA,0,0.1,0.5\nA,1,0.1,0.6\n", "t.csv")
    assert [one.name_counts for one in read(file)] == [counts, counts]
    assert all(one.name_counts for one in read(file, name="ours"))


def test_equal_rows_without_a_name_are_as_many_imports_and_the_same_ones_again(tmp_path: Path) -> None:
    file = saved(tmp_path, "lr,score\n1,0.5\n1,0.5\n1,0.5\n", "t.csv")
    digests = [one.digest for one in read(file)]
    assert len(set(digests)) == 3
    assert [one.digest for one in read(file)] == digests


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("lr (1),lr [1]", r"MLflow would take 'lr \(1\)' and 'lr \[1\]' for one name"),
        ("x" * 300 + ",y", r"a name is 'xxx.*, but must be at most 243 characters long"),
        ("//x,y", "a name is '//x', but must be without empty parts and dots between its slashes"),
        ("a/../x,y", r"a name is 'a/\.\./x', but must be without empty parts"),
        (f"{'q' * 250}/acc,y", "a name is 'qqq.*, but must be at most 245 characters long"),
        ("a:b/acc,a;b/acc", "'a:b' and 'a;b' for one name"),
    ],
)
def test_columns_that_mlflow_does_not_take_are_told_before_anything_is_kept(
    tmp_path: Path, column: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read(saved(tmp_path, f"name,score,{column}\nA,0.5,0.1,0.2\n", "t.csv"))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, r"no column is known as a score.*Columns found: Model, Accuracy\."),
        (
            {"score": "Acuracy"},
            r"there is no column 'Acuracy'\. Did you mean 'Accuracy'\? Columns found: Model, Accuracy",
        ),
        ({"scroe": "Accuracy"}, r"is 'scroe', but must be one of name, .* Did you mean 'score'\?"),
    ],
)
def test_columns_that_do_not_map_are_told_with_what_was_found(
    tmp_path: Path, columns: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read(saved(tmp_path, "Model,Accuracy\nfirst,0.5\n", "t.csv"), columns=columns)


@pytest.mark.parametrize("cell", ["nan", "inf", "about half"])
def test_a_cell_that_is_no_number_is_refused_with_its_place(tmp_path: Path, cell: str) -> None:
    text = f"name,quiz/acc\nA,0.5\nB,{cell}\n"
    with pytest.raises(InputError, match=rf"line 3, column 'quiz/acc' is '{cell}', but must be a finite number"):
        read(saved(tmp_path, text, "t.csv"))


def test_all_faults_of_a_table_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has 2 faults"):
        read(saved(tmp_path, "name,quiz/acc\nA,nan\nB,\n", "t.csv"))


# ---- all of them


def test_a_folder_is_looked_through_for_every_form(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    write_lm_eval(tmp_path / "deep")
    saved(tmp_path, peft_tree(), "peft.json")
    saved(tmp_path, "name,quiz/acc\nA,0.5\n", "t.csv")
    saved(tmp_path, {"anything": "else"}, "adapter_config.json")
    assert sorted(one.name for one in read(tmp_path)) == ["A", "lora/some-3B-rank32", "someone/lora"]


def test_a_folder_without_results_says_what_it_holds(tmp_path: Path) -> None:
    saved(tmp_path, {}, "adapter_config.json")
    with pytest.raises(InputError, match=r"holds no result file; it holds adapter_config\.json"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("notes.csv", "a,b\n1,2\n", "no column is known as a score"),
        ("empty.csv", "", "holds no rows"),
        ("broken.json", "{", "is not JSON"),
        ("lines.json", '{"a": 1}\n{"a": 2}', "is not JSON"),
        ("deep.json", "[" * 100_000, "is not JSON"),
    ],
)
def test_what_is_no_result_file_is_passed_over_in_a_folder_and_told(
    tmp_path: Path, name: str, text: str, reason: str
) -> None:
    write_lm_eval(tmp_path)
    saved(tmp_path, text, name)
    saved(tmp_path, {}, "config.json")
    observer = Told()
    assert len(read_results([tmp_path], ImportOptions(), observer)) == 1
    summary, told = observer.lines
    assert "passed over 2 files" in summary
    assert f"{name}: {reason}" in told


def test_a_folder_without_results_says_why_each_was_not_taken(tmp_path: Path) -> None:
    saved(tmp_path, "a,b\n1,2\n", "notes.csv")
    with pytest.raises(InputError, match=r"(?s)it holds notes\.csv.*no column is known as a score"):
        read(tmp_path)


def test_a_broken_result_file_in_a_folder_is_a_fault(tmp_path: Path) -> None:
    write_lm_eval(tmp_path)
    saved(tmp_path, "name,score\nA,nan\n", "a.csv")
    saved(tmp_path, "name,score\nA,inf\n", "b.csv")
    with pytest.raises(InputError, match=r"(?s)has 2 faults.*a\.csv.*b\.csv"):
        read(tmp_path)


def test_faults_of_several_files_are_told_together(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)import has 2 faults.*a\.json.*missing\.json"):
        read(saved(tmp_path, "{}", "a.json"), tmp_path / "missing.json")


def test_what_is_there_already_is_told_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known: dict[str, tuple[str, str]] = {}

    def keep(_store: object, found: Sequence[ImportedRun], project: str) -> list[tuple[ImportedRun, str]]:
        known.update({imported.digest: (imported.name, project) for imported in found})
        return [(imported, imported.name) for imported in found]

    store = SimpleNamespace(experiment_id=lambda: "1", uri=f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr(importer, "connect", lambda *_: store)
    monkeypatch.setattr(importer, "where_kept", lambda *_: "kept")
    monkeypatch.setattr(importer, "known_imports", lambda _: dict(known))
    monkeypatch.setattr(importer, "keep_imports", keep)
    file, observer = saved(tmp_path, "name,score\nA,0.5\nB,0.6\n", "t.csv"), Told()
    assert import_results([file], ImportOptions(), observer, project="first") == ["A", "B"]
    assert observer.lines[-3:] == [
        "2 imported into 'first', 0 were there",
        "kept",
        "next: tunery compare --project first",
    ]
    assert import_results([file], ImportOptions(), observer, project="second") == []
    assert observer.lines[-2:] == [
        "t.csv:3: B is here already, as run B in 'first'",
        "0 imported into 'second', 2 were there already, in 'first'",
    ]


def test_what_the_command_line_says_wins_and_is_another_import(tmp_path: Path) -> None:
    file = write_lm_eval(tmp_path)
    [plain], [told] = read(file), read(file, base="builtin:tiny", method="lora")
    assert (told.base, told.method) == ("builtin:tiny", "lora")
    assert plain.digest != told.digest


def test_the_same_file_has_the_same_digest_and_an_answer_changes_it(tmp_path: Path) -> None:
    file = write_lm_eval(tmp_path)
    [first], [again] = read(file), read(file)
    assert first.digest == again.digest
    samples = tmp_path / f"samples_world_facts_{DATE}.jsonl"
    samples.write_text(samples.read_text().replace('"acc": 0.0', '"acc": 1.0', 1))
    assert read(file)[0].digest != first.digest


def test_of_two_that_bring_the_same_at_once_each_run_is_kept_once(store: Store, tmp_path: Path) -> None:
    file = saved(tmp_path, "name,score\nA,0.5\nB,0.6\nC,0.7\n", "t.csv")
    with ThreadPoolExecutor(2) as pool:
        made = list(
            pool.map(lambda _: import_results([file], ImportOptions(), Told(), tracking_uri=store.uri), range(2))
        )
    assert sorted(map(len, made)) == [0, 3]


def test_an_import_that_was_killed_is_known_by_its_process(store: Store, tmp_path: Path) -> None:
    import_results([saved(tmp_path, "name,score\nA,0.5\n", "t.csv")], ImportOptions(), Told(), tracking_uri=store.uri)
    (run,) = search_runs(store, "tags.`tunery.kind` = 'import'")
    assert run.data.tags["tunery.process"] == this_process()


LATER = ("group_subtasks", "n-samples", "higher_is_better", "chat_template", "lm_eval_version", "date")
ROW = {"alias": "world_facts", "exact_match,strict": 0.25, "exact_match,flexible": 0.75}
FILTERS = [{"name": "strict", "filter": []}, {"name": "flexible", "filter": []}]


def old_samples(release: str) -> list[dict[str, Any]]:
    """Answers by two filters as each release logged them: all documents by the one, then by the other."""
    lines = []
    for name, right in (("strict", 1), ("flexible", 3)):
        for number, document in enumerate(DOCUMENTS):
            line = {"doc_id": number, "doc": document, "target": document["gold"], "arguments": [["q", "a"]]}
            line |= {"resps": [["a"]], "filtered_resps": ["a"], "exact_match": float(number < right)}
            if release >= "0.4.3":
                line |= {"target": str(document["gold"]), "doc_hash": "d", "prompt_hash": "p", "target_hash": "t"}
            if release >= "0.4.7":
                line |= {"filter": name, "metrics": ["exact_match"]}
            lines.append(line)
    return lines


def write_old(folder: Path, release: str, samples: list[dict[str, Any]]) -> Path:
    """Files by the names and in the form of a release's command line."""
    tree = lm_eval_tree(results={"world_facts": ROW}, lm_eval_version=release)
    tree["configs"]["world_facts"] |= {"filter_list": FILTERS, "metric_list": [{"metric": "exact_match"}]}
    if release >= "0.4.3":
        (folder / f"samples_world_facts_{DATE}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in samples))
        file = folder / f"results_{DATE}.json"
    else:
        tree = {key: value for key, value in tree.items() if key not in LATER}
        tree["config"] = {"model": "hf", "model_args": "pretrained=acme/base,dtype=float32", "limit": 4.0}
        (folder / "pretrained__acme__base,dtype__float32_world_facts.jsonl").write_text(json.dumps(samples, indent=2))
        file = folder / "results.json"
    file.write_text(json.dumps(tree))
    return file


@pytest.mark.parametrize("release", ["0.4.0", "0.4.1", "0.4.2", "0.4.5", "0.4.7"])
def test_samples_of_every_release_are_read_by_filter(tmp_path: Path, release: str) -> None:
    [found] = read(write_old(tmp_path, release, old_samples(release)))
    samples = found.tasks["world_facts"].samples
    assert samples is not None
    assert samples["exact_match.strict"].tolist() == [1.0, 0.0, 0.0, 0.0]
    assert samples["exact_match.flexible"].tolist() == [1.0, 1.0, 1.0, 0.0]
    assert samples["item_id"].tolist() == [item_id("world_facts", one, one["gold"]) for one in DOCUMENTS]
    assert "target_hash" not in samples
    assert not {"target.strict", "target.flexible"} & set(samples), "an option's number is no score"


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        (old_samples("0.4.0")[:4] * 3, r"document 0 is 3, but must be as many .* has filters \(2\)"),
        ([{"doc_id": 0}], "is no list of lm-eval's samples"),
    ],
)
def test_an_old_list_that_cannot_be_told_apart_is_refused(tmp_path: Path, samples: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        read(write_old(tmp_path, "0.4.0", samples))
