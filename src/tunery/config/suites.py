"""Named lists of lm-eval tasks, and what each of their tasks measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# leaderboard-v1 is the Open LLM Leaderboard's first edition; commonsense is the eight-task set that LoRA papers report
# (LLM-Adapters, arXiv:2304.01933); capabilities follows Wang et al. 2023, How Far Can Camels Go?, arXiv:2306.04751.
SUITES: Mapping[str, tuple[str, ...]] = {
    "quickstart": ("world_facts", "world_comparison"),
    "leaderboard-v1": ("arc_challenge", "hellaswag", "mmlu", "truthfulqa_mc2", "winogrande", "gsm8k"),
    "commonsense": (
        "boolq",
        "piqa",
        "social_iqa",
        "hellaswag",
        "winogrande",
        "arc_easy",
        "arc_challenge",
        "openbookqa",
    ),
    "instruct": ("hellaswag", "arc_challenge", "mmlu_stem", "truthfulqa_mc2"),
    "capabilities": ("mmlu", "gsm8k_cot", "bbh_cot_fewshot", "tydiqa_goldp", "ifeval"),
}
# Tasks of a suite that run code which the model writes: only with evaluation.allow_code.
_WITH_CODE: Mapping[str, tuple[str, ...]] = {"capabilities": ("humaneval",)}
MEASURES: Mapping[str, str] = {
    "mmlu": "factual knowledge, from 57 subjects",
    "gsm8k_cot": "reasoning: grade-school mathematics, worked out step by step",
    "bbh_cot_fewshot": "reasoning: 27 hard tasks of BIG-bench, worked out step by step",
    "tydiqa_goldp": "multilinguality: questions on a given passage in nine languages",
    "humaneval": "coding: functions that the model writes and that must pass their tests",
    "ifeval": (
        "instructions that can be checked by rule: a substitute for open-ended following, which people or a judge "
        "would have to read"
    ),
    "hellaswag": "common sense: how an everyday scene goes on",
    "arc_challenge": "grade-school science questions that retrieval and word statistics get wrong",
    "mmlu_stem": "knowledge of science, technology, engineering and mathematics",
    "truthfulqa_mc2": "truthfulness: the probability of true answers where many people believe a false one",
}


def expanded(names: Sequence[str], allow_code: bool) -> list[str]:
    """Tasks that are named, each once, the names of suites replaced by their tasks."""

    def tasks(name: str) -> tuple[str, ...]:
        return (*SUITES.get(name, (name,)), *(_WITH_CODE.get(name, ()) if allow_code else ()))

    return list(dict.fromkeys(task for name in names for task in tasks(name)))
