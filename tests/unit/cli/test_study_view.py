"""The view of a running study: a line a trial in a log, a live picture on a terminal."""

from __future__ import annotations

import io
import re
import threading
from typing import Any

import pytest
from rich.console import Console

from tunery.cli import study_view
from tunery.cli.study_view import StudyView
from tunery.records.studies import TrialRow


def row(
    number: int, score: float | None = None, state: str = "complete", seconds: float = 30.0, **facts: Any
) -> TrialRow:
    values = {} if score is None else {"score": score}
    return TrialRow(number, state, {}, values, {}, seconds=seconds, name=f"rank={number}", **facts)


def log(width: int = 100) -> tuple[StudyView, io.StringIO]:
    page = io.StringIO()
    return StudyView(Console(file=page, width=width, force_terminal=False, highlight=False)), page


def screen(width: int = 80) -> tuple[StudyView, io.StringIO]:
    page = io.StringIO()
    return StudyView(Console(file=page, width=width, height=30, force_terminal=True, highlight=False)), page


def picture(view: StudyView, width: int = 80) -> list[str]:
    page = io.StringIO()
    Console(file=page, width=width).print(view._picture())
    return page.getvalue().splitlines()


def test_a_log_gets_one_line_a_trial_with_the_best_and_the_time_left() -> None:
    view, page = log()
    with view:
        view.begin("quickstart", 4, 0)
        view.trial_began(0, "as declared", 0)
        view.trial_step(0, 1, 10, 2.0)
        view.trial_ended(row(0, 0.6), row(0, 0.6))
        view.trial_began(1, "rank=1", 0)
        view.trial_ended(row(1, 0.5, seconds=60.0), row(0, 0.6))
    assert page.getvalue().splitlines() == [
        "» study quickstart: 4 trials",
        "  1/4  trial 0 complete, score 0.6000, 30.0 s, best so far, about 1 min 30 s left  rank=0",
        "  2/4  trial 1 complete, score 0.5000, 1 min 00 s, best score 0.6000 (trial 0), about 1 min 30 s left  rank=1",
    ]


def test_the_finals_count_into_the_time_left() -> None:
    view, page = log()
    view.finals(4)
    view.begin("s", 2, 0)
    view.trial_ended(row(0, 0.6, seconds=60.0), None)
    assert "about 5 min 00 s left" in page.getvalue()


def test_a_line_says_why_a_trial_gave_no_score() -> None:
    view, page = log(40)
    view.begin("s", 3, 0)
    view.trial_ended(row(0, state="pruned"), None)
    view.trial_ended(row(1, state="failed", failure="oom", reason="out of\nmemory"), None)
    view.trial_ended(row(2, 0.9, feasible=False), None)
    pruned, failed, refused = page.getvalue().splitlines()[1:]
    assert "trial 0 pruned" in pruned
    assert "trial 1 oom" in failed
    assert failed.endswith("rank=1  out of memory")
    assert "complete (constraint not met), score 0.9000" in refused


def test_the_time_left_is_shared_by_the_workers() -> None:
    view, page = log()
    view.begin("s", 10, 4)
    for number in (4, 5):
        view.trial_began(number, "", worker=number - 4)
    view.trial_ended(row(4, 0.5, seconds=20.0), None)
    view.trial_ended(row(5, 0.5, seconds=40.0), None)
    # 4 are missing at 30 s each, and two work at a time
    assert "6/10" in page.getvalue()
    assert "about 1 min 00 s left (2 min 00 s of work)" in page.getvalue().splitlines()[-1]


def test_a_trial_that_is_tried_again_is_counted_once() -> None:
    view, page = log()
    view.begin("s", 3, 0)
    view.trial_ended(row(0, state="failed", failure="killed"), None)
    view.trial_began(0, "rank=0", 1)
    view.trial_ended(row(0, 0.7), row(0, 0.7))
    assert "  1/3  trial 0 complete" in page.getvalue().splitlines()[-1]


def test_a_long_name_stays_on_its_line_of_the_log() -> None:
    view, page = log(40)
    view.begin("s", 1, 0)
    view.trial_ended(TrialRow(0, "complete", {}, {"score": 0.5}, {}, name="module=[red]" * 20), None)
    lines = page.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[1].endswith("module=[red]" * 20)


def test_a_log_hears_of_a_long_trial_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(study_view.time, "monotonic", lambda: now[0])
    view, page = log()
    view.begin("s", 1, 0)
    view.trial_began(0, "rank=0", 0)
    for step in range(1, 181):
        now[0] = float(step)
        view.trial_step(0, step, 200, 2.0 if step == 1 else None)
    steps = re.findall(r"trial 0: step (\d+)/200, train/loss 2.0000", page.getvalue())
    assert steps == ["30", "60", "90", "120", "150", "180"]


def test_a_log_hears_of_the_trials_of_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(study_view.time, "monotonic", lambda: now[0])
    view, page = log()
    view.begin("s", 2, 0)
    for number in (0, 1):
        view.trial_began(number, f"rank={number}", number)
    for second in range(65):
        now[0] = float(second)
        view.waiting()
    assert page.getvalue().splitlines()[1:] == [
        "  trial 0: running for 30.0 s  rank=0",
        "  trial 1: running for 30.0 s  rank=1",
        "  trial 0: running for 1 min 00 s  rank=0",
        "  trial 1: running for 1 min 00 s  rank=1",
    ]


def test_the_live_picture_shows_what_runs_what_ended_and_the_best() -> None:
    view, _ = log()
    view.begin("quickstart", 6, 1)
    view.trial_began(1, "rank=1", 0)
    view.trial_ended(row(1, 0.7125), row(1, 0.7125))
    view.trial_ended(row(2, state="failed", failure="nan"), row(1, 0.7125))
    view.trial_began(3, "rank=3", 0)
    view.trial_began(4, "rank=4", 1)
    view.trial_step(4, 7, 40, 1.25)
    lines = picture(view)
    assert lines[0].startswith("quickstart")
    assert lines[0].endswith("3/6 trials")
    assert lines[2:] == [
        "ended    1 before, 1 complete, 1 failed (nan 1)",
        "best     trial 1: score 0.7125  rank=1",
        "running  trial 3: running for 0.0 s  rank=3",
        "running  trial 4: step 7/40, train/loss 1.2500  rank=4",
    ]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_line_of_the_live_picture_is_wider_than_the_terminal(width: int) -> None:
    view, _ = log()
    view.begin("a-very-long-name-of-a-study" * 3, 6, 1)
    view.trial_began(3, "learning_rate=0.0001, " * 10, 0)
    view.trial_step(3, 1, 2, 1.0)
    assert len(picture(view, width)) == 4
    assert max(map(len, picture(view, width))) <= width


def test_a_terminal_is_left_as_it_was_also_when_the_study_fails() -> None:
    view, page = screen()

    def interrupted() -> None:
        with view:
            view.begin("s", 2, 0)
            view.trial_ended(row(0, 0.5), row(0, 0.5))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    hidden, shown = "\x1b[?25l", "\x1b[?25h"
    assert page.getvalue().count(hidden) == page.getvalue().count(shown) == 1
    assert "1/2  trial 0 complete" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", page.getvalue())


def test_after_the_trials_the_phase_is_shown_instead_of_the_time_left() -> None:
    view, page = log()
    view.begin("s", 2, 0)
    view.trial_began(0, "", 0)
    view.trial_ended(row(0, 0.5), row(0, 0.5))
    view.trial_began(1, "", 0)
    view.phase("training 4 finalists with 3 other seeds")
    assert page.getvalue().endswith("» training 4 finalists with 3 other seeds\n")
    lines = picture(view)
    assert lines[-1] == "now      training 4 finalists with 3 other seeds"
    assert not any("left" in line or "running" in line for line in lines)


def test_steps_of_a_trial_that_is_not_known_are_ignored() -> None:
    view, _ = log()
    view.begin("s", 2, 0)
    view.trial_step(7, 1, 2, 1.0)
    assert not any("trial 7" in line for line in picture(view))


def test_workers_may_report_while_the_picture_is_drawn() -> None:
    view, _ = log()
    view.begin("s", 2000, 0)
    stop = threading.Event()

    def report() -> None:
        while not stop.is_set():
            for number in range(50):
                view.trial_began(number, "", 0)
            for number in range(50):
                view._running.pop(number, None)

    worker = threading.Thread(target=report)
    worker.start()
    try:
        drawn = [picture(view) for _ in range(30)]
    finally:
        stop.set()
        worker.join()
    assert len(drawn) == 30
