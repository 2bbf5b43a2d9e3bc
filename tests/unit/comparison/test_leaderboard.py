"""From runs to places: seeds in one row, every score beside its base, who is better, what is too close."""

from __future__ import annotations

import dataclasses
import itertools
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint
from tests.unit.comparison.entries_made import (
    quickstart,
    run,
    score_of,
    seeds,
    valued,
    with_conditions,
    without_samples,
)

from tunery.comparison.entries import RunEntry, TaskScore, Votes
from tunery.comparison.leaderboard import rank
from tunery.comparison.records import Comparison, LeaderboardRow
from tunery.comparison.report.columns import answers
from tunery.comparison.report.conclusions import caveats, conclusions
from tunery.comparison.report.tables import frame
from tunery.errors import InputError
from tunery.records.scores import Score, TaskResult, TaskSettings
from tunery.statistics.paired import compare_tasks

FACTS = {"world_facts": 0.25}
TWO = {"world_facts": 0.25, "world_comparison": 0.1}


def contender(comparison: Comparison, name: str) -> LeaderboardRow:
    return next(one for board in comparison.boards for one in board.contenders if one.name == name)


@pytest.fixture(scope="module")
def whole() -> Comparison:
    return rank(quickstart())


def choosing(entry: RunEntry, picked: list[str]) -> RunEntry:
    """The same run on 200 items of which 87 are a "yes", with these answers."""
    right = pd.Series(["yes"] * 87 + ["no"] * 113)
    chosen = pd.Series(picked)
    ids = [f"hans-{number}" for number in range(200)]
    samples = pd.DataFrame({"item_id": ids, "acc": (chosen == right).astype(float), "chosen": chosen, "right": right})
    score = score_of("hans", samples)
    return dataclasses.replace(entry, tasks={"hans": score}, samples={"hans": samples}, base_samples={})


def test_a_score_of_one_answer_to_all_items_is_named_with_its_answers() -> None:
    flipped = choosing(run("flipped", {"hans": 0.0}), ["yes"] * 7 + ["no"] * 80 + ["yes"] * 3 + ["no"] * 110)
    learned = choosing(run("learned", {"hans": 0.0}), ["yes"] * 60 + ["no"] * 140)
    found = rank([flipped, learned])
    told = "hans: flipped answers 'no' to 190 of 200 items and scores 0.585, where always 'no' scores 0.565"
    sentences = conclusions(found)
    assert any(told in sentence for sentence in sentences)
    assert not any("learned answers" in sentence or "learned scores 0.7" in sentence for sentence in sentences)
    section = answers(found.main)
    assert section is not None
    assert ("flipped", "hans (acc)", "0.585", "0.565 (no)", "no 190, yes 10", "–") in section.rows
    assert frame(found)["hans/acc_majority"].tolist() == pytest.approx([0.565, 0.565])


def test_answers_of_all_seeds_are_counted_together() -> None:
    one, other = (choosing(run("flat", {"hans": 0.0}, seed), ["no"] * 200) for seed in (1, 2))
    cell = contender(rank([one, other]), "flat").cells["hans"]
    assert cell.answers is not None
    assert (cell.answers.chosen, cell.answers.is_one_answer) == ({"no": 400, "yes": 0}, True)


def test_answers_that_did_not_change_are_named() -> None:
    def beside_base(entry: RunEntry, picked: list[str]) -> RunEntry:
        own = choosing(entry, picked)
        base = choosing(entry, ["no"] * 120 + ["yes"] * 80).samples["hans"]
        return dataclasses.replace(own, base_samples={"hans": base})

    idle = [beside_base(run("idle", {"hans": 0.0}, seed), ["no"] * 120 + ["yes"] * 80) for seed in (1, 2)]
    found = rank([*idle, beside_base(run("busy", {"hans": 0.0}), ["no"] * 121 + ["yes"] * 79)])
    told = [sentence for sentence in conclusions(found) if "answers changed" in sentence]
    assert told == ["hans: 0 of 400 answers changed: idle answers every item as the base does."]
    section = answers(found.main)
    assert section is not None
    assert {row[0]: row[-1] for row in section.rows} == {"idle": "0 of 400", "busy": "1 of 200"}


def test_seeds_of_a_configuration_are_one_row() -> None:
    runs = seeds("lora", FACTS)
    one = contender(rank(runs), "lora")
    values = [entry.tasks["world_facts"].value for entry in runs]
    assert one.seeds == 3
    assert one.score.value == pytest.approx(np.mean(values))
    assert one.score.spread == pytest.approx(np.std(values, ddof=1))


def test_runs_that_know_no_configuration_stand_alone() -> None:
    runs = [dataclasses.replace(entry, configuration="", seed=None) for entry in seeds("import", FACTS)]
    assert [one.seeds for one in rank(runs).main.contenders] == [1, 1, 1]


def test_a_seed_that_was_trained_again_counts_once_and_the_later_run_counts() -> None:
    early, late = (run("lora", FACTS, seed=n, configuration="c") for n in (1, 2))
    late = dataclasses.replace(late, seed=1, started_ms=5)
    board = rank([early, late, run("lora", FACTS, seed=3, configuration="c")]).main
    assert [one.run_id for one in board.contenders[0].runs] == [late.run_id, "lora-facts-3"]
    assert board.notes == ("lora: 1 earlier run of the same configuration and seed left out.",)


def test_a_run_given_twice_counts_once() -> None:
    assert rank([run("lora", FACTS)] * 2).main.contenders[0].seeds == 1


def test_equal_names_are_told_apart() -> None:
    runs = [
        run("lora", FACTS, data="facts"),
        run("lora", FACTS, data="comparisons"),
        run("lora", FACTS, configuration="c", run_id="0123456789abcdef"),
    ]
    names = {one.name for one in rank(runs).main.contenders}
    assert names == {"lora (comparisons)", "lora (facts) (lora-fac)", "lora (facts) (01234567)"}


def test_the_name_of_seeds_is_what_their_names_share() -> None:
    runs = [run(f"lora r=16 seed {n}", FACTS, seed=n, configuration="c") for n in (1, 2, 12)]
    assert [one.name for one in rank(runs).main.contenders] == ["lora r=16"]
    runs = [run(name, FACTS, seed=n, configuration="c") for n, name in enumerate(("bold-cat", "shy-ant"))]
    assert [one.name for one in rank(runs).main.contenders] == ["bold-cat and 1 more seed"]


def test_repeats_of_a_study_are_named_by_their_settings_and_not_by_their_trials_numbers() -> None:
    runs = [run(f"{10 * n + 7}: method=icl, rows=2, seed {n}", FACTS, seed=n, configuration="c") for n in range(3)]
    assert [one.name for one in rank(runs).main.contenders] == ["method=icl, rows=2"]
    alone = run("7: rank=8", FACTS)
    assert [one.name for one in rank([alone]).main.contenders] == ["7: rank=8"], "by which the study's report knows it"


def test_one_seed_against_its_base_is_the_test_of_a_single_run() -> None:
    entry = run("lora", FACTS)
    gain = rank([entry]).main.contenders[0].score.gain
    sides = []
    for samples in (entry.base_samples["world_facts"], entry.samples["world_facts"]):
        score = Score("world_facts", "acc", float(samples["acc"].mean()), None, len(samples))
        sides.append(
            {"world_facts": TaskResult(TaskSettings("world_facts", "1", 0, None, True), {"acc": score}, samples)}
        )
    (pair,) = compare_tasks(*sides, {"world_facts": "acc"})
    assert gain is not None
    assert dataclasses.asdict(gain) == pytest.approx(
        {**dataclasses.asdict(pair.difference), "adjusted": gain.p_value}, nan_ok=True
    )


def test_a_base_has_no_gain_over_itself() -> None:
    bare = run("base", {"world_facts": 0.0}, kind="base", method="none", trained_on="")
    comparison = rank([bare, *seeds("lora", FACTS)])
    assert contender(comparison, "base").score.gain is None
    assert contender(comparison, "lora").score.gain is not None


def test_less_is_better_is_turned_and_shown_as_it_is() -> None:
    def perplexity(name: str, value: float) -> RunEntry:
        score = TaskScore("wiki", "perplexity", value, 0.1, 50, base=20.0, base_stderr=0.1, higher_is_better=False)
        return dataclasses.replace(run(name, FACTS), tasks={"wiki": score}, samples={}, base_samples={})

    board = rank([perplexity("worse", 22.0), perplexity("better", 15.0)]).main
    assert [one.name for one in board.contenders] == ["better", "worse"]
    cell = board.contenders[0].cells["wiki"]
    assert (cell.value, cell.base, cell.delta) == (15.0, 20.0, -5.0)
    assert cell.low < 15.0 < cell.high
    assert cell.gain is not None
    assert cell.gain.value == 5.0
    assert board.contenders[0].score.value == -15.0


def test_places_lie_within_the_ranks_that_the_data_allow(whole: Comparison) -> None:
    for board in whole.boards:
        for one in board.contenders:
            assert one.ranks[0] <= one.place <= one.ranks[1]


def test_equal_runs_are_too_close_to_call() -> None:
    same = run("a", FACTS)
    board = rank([same, dataclasses.replace(same, run_id="b", name="b", configuration="b")]).main
    assert board.ties == (("a", "b"),)
    assert [one.ranks for one in board.contenders] == [(1, 2), (1, 2)]
    assert board.pairs[0].difference.p_value == 1.0


def test_a_large_real_gain_is_called_one() -> None:
    comparison = rank([*seeds("good", {"world_facts": 0.45}), *seeds("poor", {"world_facts": 0.0})])
    assert [one.ranks for one in comparison.main.contenders] == [(1, 1), (2, 2)]
    assert comparison.main.ties == ()
    said = conclusions(comparison)
    assert said[0].endswith("The data allow only place 1.")
    assert any(sentence.startswith("good is better than poor (+") and "on world_facts" in sentence for sentence in said)


def test_pairs_of_single_tasks_are_corrected_for_all_tasks(whole: Comparison) -> None:
    board = whole.main
    single = [pair.difference for pair in board.pairs if pair.task in board.tasks]
    smallest = min(single, key=lambda found: found.p_value)
    pairs = math.comb(len(board.contenders), 2)
    assert smallest.adjusted == pytest.approx(min(1.0, smallest.p_value * pairs * len(board.tasks)))


def test_every_pair_is_there_once(whole: Comparison) -> None:
    board = whole.main
    names = [one.name for one in board.contenders]
    assert [(pair.one, pair.other) for pair in board.over_all] == list(itertools.combinations(names, 2))


def test_runs_without_answers_are_compared_unpaired_and_it_is_said() -> None:
    one, other = (without_samples(run(name, gains)) for name, gains in (("a", FACTS), ("b", {"world_facts": 0.1})))
    board = rank([one, other]).main
    found = board.pairs[0].difference
    scores = [entry.tasks["world_facts"] for entry in (one, other)]
    error = math.hypot(*(score.stderr or 0 for score in scores))
    assert found.test == "unpaired z"
    assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(scores[0].value - scores[1].value) / error))
    assert any("unpaired z" in sentence for sentence in caveats(board))


def test_runs_without_answers_and_errors_are_only_listed() -> None:
    runs = [valued(without_samples(run(name, FACTS)), "world_facts", 0.7, stderr=None) for name in "ab"]
    board = rank(runs).main
    assert math.isnan(board.pairs[0].difference.p_value)
    assert any("listed but not tested" in sentence for sentence in caveats(board))


def unknown(name: str, value: float, base: float | None = None) -> RunEntry:
    """A published score without an error."""
    return valued(without_samples(run(name, FACTS)), "world_facts", value, stderr=None, base=base)


def test_what_was_never_tested_is_not_called_a_tie() -> None:
    said = conclusions(rank([unknown("a", 0.9, base=0.5), unknown("b", 0.1, base=0.5)]))
    assert "Not tested against one another, since no error is known: a, b." in said
    assert "Not tested against the base, since no error is known: a, b." in said
    assert not any("Too close" in sentence or "Not surely" in sentence for sentence in said)


def test_a_group_of_which_some_were_tested_says_so() -> None:
    said = conclusions(rank([run("a", FACTS), run("b", FACTS, seed=1), unknown("c", 0.7)]))
    assert any(
        sentence.startswith("Too close to call for the first place, where it could be tested") for sentence in said
    )


def test_a_task_on_which_nothing_was_tested_is_not_one_without_differences() -> None:
    runs = [valued(without_samples(run(name, TWO)), "world_facts", 0.7, stderr=None) for name in "ab"]
    said = conclusions(rank(runs))
    assert "No two could be tested on world_facts." in said
    assert "No difference between any two is sure on world_comparison." in said


def test_answers_that_are_all_right_have_no_interval() -> None:
    samples = run("a", FACTS, items=8).samples["world_facts"].assign(acc=1.0)
    right = valued(run("a", FACTS, items=8), "world_facts", 1.0, stderr=0.0)
    score = (
        rank([dataclasses.replace(right, samples={"world_facts": samples}, base_samples={})]).main.contenders[0].score
    )
    assert (math.isnan(score.low), score.stderr) == (True, None)


def test_answers_that_do_not_average_to_the_score_are_not_paired() -> None:
    wrong = valued(run("wrong", FACTS), "world_facts", 0.123)
    assert rank([run("a", FACTS), wrong]).main.pairs[0].difference.test == "unpaired z"


def test_only_the_split_that_was_scored_is_paired() -> None:
    def locked(name: str, seed: int) -> RunEntry:
        entry = run(name, FACTS, seed)
        samples = entry.samples["world_facts"].assign(split=["locked", "dev"] * 60)
        base = entry.base_samples["world_facts"].assign(split=["locked", "dev"] * 60)
        mean, before = (float(frame.loc[frame["split"] == "locked", "acc"].mean()) for frame in (samples, base))
        entry = dataclasses.replace(entry, samples={"world_facts": samples}, base_samples={"world_facts": base})
        entry = valued(entry, "world_facts", mean, base=before, items=60)
        return with_conditions(entry, "world_facts", split="locked")

    board = rank([locked("a", 1), locked("b", 2)]).main
    assert (board.pairs[0].difference.test, board.pairs[0].difference.items) == ("exact McNemar", 60)


@pytest.mark.parametrize(("split", "word"), [("locked", "logged of all items"), ("dev", "a search chooses")])
def test_a_board_says_that_only_some_items_count(split: str, word: str) -> None:
    (note,) = rank([with_conditions(run("a", FACTS), "world_facts", split=split)]).main.notes
    assert note.startswith(f"Scored on the {split} items of world_facts only")
    assert word in note


def test_a_shared_passage_makes_one_unit_of_its_items() -> None:
    def reading(name: str) -> RunEntry:
        entry = run(name, FACTS)
        samples = entry.samples["world_facts"].assign(passage=[f"text {n // 6}" for n in range(120)])
        return dataclasses.replace(entry, samples={"world_facts": samples})

    for runs in ([reading("a"), reading("b")], [run("a", FACTS), reading("b")]):
        assert rank(runs).main.pairs[0].difference.test == "paired permutation, by passage"


def test_votes_of_all_seeds_become_a_win_rate_with_wilsons_interval() -> None:
    runs = [dataclasses.replace(one, votes=Votes(6, 2, 2)) for one in seeds("lora", FACTS, count=2)]
    rate = rank(runs).main.contenders[0].win_rate
    assert rate is not None
    assert (rate.votes, rate.rate) == (Votes(12, 4, 4), 0.75)
    assert (rate.low, rate.high) == pytest.approx(proportion_confint(12, 16, method="wilson"))


def test_votes_that_are_all_ties_are_no_rate() -> None:
    assert rank([dataclasses.replace(run("lora", FACTS), votes=Votes(0, 3, 0))]).main.contenders[0].win_rate is None


@pytest.mark.parametrize(
    ("votes", "said"),
    [
        (
            Votes(1, 0, 0),
            "The votes do not say whether people prefer lora to its base: the tuned model won 1 of 1 vote ",
        ),
        (Votes(18, 0, 2), "People preferred lora to its base: the tuned model won 18 of 20 votes "),
        (Votes(2, 0, 18), "People preferred its base to lora: the tuned model won 2 of 20 votes "),
    ],
)
def test_few_votes_say_nothing(votes: Votes, said: str) -> None:
    sentences = conclusions(rank([dataclasses.replace(run("lora", FACTS), votes=votes)]))
    assert any(sentence.startswith(said) for sentence in sentences)


def test_a_row_without_a_base_says_why() -> None:
    said = conclusions(rank([unknown("a", 0.9), unknown("b", 0.8, base=0.5)]))
    assert "No base score on the same items in the same precision: a." in said


def test_whoever_may_be_first_is_named_wherever_it_stands() -> None:
    runs = [run("a", {"world_facts": 0.45}), run("b", {"world_facts": 0.0}), unknown("c", 0.01)]
    assert "First place may also belong to c." in conclusions(rank(runs))


def test_a_guarded_task_stands_beside_the_score() -> None:
    def guarded(name: str, few_shot: str) -> RunEntry:
        entry = run(name, {**FACTS, "guard": 0.1})
        score = dataclasses.replace(entry.tasks["guard"], counts=False)
        entry = dataclasses.replace(entry, tasks={**entry.tasks, "guard": score})
        return with_conditions(entry, "guard", few_shot=few_shot)

    board = rank([guarded("a", "0"), guarded("b", "0"), guarded("c", "5")]).main
    assert board.tasks == ("world_facts",)
    # What was asked in another way is not shown in the same column.
    assert {one.name: "guard" in one.cells for one in board.contenders} == {"a": True, "b": True, "c": False}


def test_over_many_tasks_ranks_are_tested_too() -> None:
    tasks = [f"task{n}" for n in range(6)]
    runs = [run(name, dict.fromkeys(tasks, gain)) for name, gain in (("a", 0.3), ("b", 0.15), ("c", 0.0))]
    task_ranks = rank(runs).main.task_ranks
    assert task_ranks is not None
    assert task_ranks.tasks == 6
    assert min(task_ranks.average_ranks, key=lambda name: task_ranks.average_ranks[name]) == "a"
    assert any("Friedman" in sentence for sentence in conclusions(rank(runs)))


def test_of_many_contenders_the_best_are_tested() -> None:
    board = rank([run(f"r{n}", {"world_facts": 0.1 * n}) for n in range(5)], tested=3).main
    assert len(board.pairs) == 3
    assert board.notes == ("Only the best 3 of 5 were tested against one another.",)
    assert all(pair.difference.adjusted == min(1.0, pair.difference.p_value * 10) for pair in board.pairs)
    assert all(len(group) <= 3 for group in board.ties)


def test_boards_set_apart_are_ranked_by_themselves(whole: Comparison) -> None:
    assert [one.name for one in whole.boards[1].contenders] == ["five-shot"]
    assert [one.run.name for one in whole.unranked] == ["diverged"]


def test_nothing_to_compare_is_an_error() -> None:
    with pytest.raises(InputError, match="nothing to compare"):
        rank([])


@pytest.mark.parametrize("confidence", [0.0, 0.05, 1.0, 95, math.nan])
def test_a_confidence_that_is_none_is_an_error(confidence: float) -> None:
    with pytest.raises(InputError, match=r"confidence is .* but must be at least 0.5"):
        rank([run("a", FACTS)], confidence=confidence)


def test_fewer_than_two_to_test_is_an_error() -> None:
    with pytest.raises(InputError, match="tested is 1, but must be at least 2"):
        rank([run("a", FACTS)], tested=1)


def test_only_scores_that_are_no_numbers_is_one_message_with_each() -> None:
    runs = [valued(run(name, FACTS), "world_facts", math.nan) for name in ("a", "b")]
    with pytest.raises(InputError) as raised:
        rank(runs)
    assert len(raised.value.faults) == 2
    assert "world_facts is nan" in str(raised.value)


def test_the_same_runs_give_the_same_comparison_in_any_order() -> None:
    runs = [*seeds("a", TWO), *seeds("b", {"world_facts": 0.2, "world_comparison": 0.2}), run("c", TWO)]
    first, second = rank(runs).main, rank(runs[::-1]).main
    assert [one.name for one in first.contenders] == [one.name for one in second.contenders]
    assert [pair.difference.p_value for pair in first.pairs] == pytest.approx(
        [pair.difference.p_value for pair in second.pairs]
    )


def test_ranking_loads_neither_torch_nor_mlflow() -> None:
    code = (
        "import sys, tunery.comparison.leaderboard, tunery.comparison.report.plots, tunery.comparison.report.tables; "
        "print([name for name in ('torch', 'mlflow', 'transformers', 'seaborn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
