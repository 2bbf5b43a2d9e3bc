"""A study as a page: the description of its run in MLflow, and report.md."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from tunery.records.studies import StudyRecord, TrialRow
from tunery.reporting import text
from tunery.reporting.templates import markdown
from tunery.search.report import facts
from tunery.search.report.loss_and_score import sentences
from tunery.search.report.tables import spread_of
from tunery.search.report.verdict import study_verdict

_OUTCOMES = {
    "complete": "complete",
    "refused": "complete, but a constraint is not met",
    "pruned": "stopped early by the pruner",
    "raced": "scored on some items, by which they were surely worse than the last finalist so far",
    "oom": "out of memory (oom)",
    "nan": "the loss was not a number (nan)",
    "timeout": "over the time limit of a trial (timeout)",
    "infeasible": "not started: too large for memory, or an invalid combination (infeasible)",
    "killed": "the worker died (killed)",
    "error": "an error (error)",
    "failed": "failed",
    "running": "still running",
    "waiting": "not started yet",
}


def study_report(
    record: StudyRecord,
    run_link: Callable[[str], str] = lambda _: "",
    version_link: Callable[[str], str] = lambda _: "",
) -> str:
    """The study in Markdown: verdict, finalists, the best trials, outcomes, constraints, cost, next steps.

    Args:
        run_link: Address of a run's page, given its id; empty for none.
        version_link: Address of the page of a registered version, given "name/3".
    """
    first, *others = record.objectives
    outcomes: dict[str, list[str]] = defaultdict(list)
    for row in record.trials:
        outcomes[_outcome(row)].append(text.linked(str(row.number), row.run_id, run_link))
    return markdown(
        "tunery.search.report",
        "report.md.j2",
        record=record,
        verdict=study_verdict(record),
        first=first,
        ties=[text.code(name) for name in others],
        metrics=list(dict.fromkeys([*record.objectives, *record.constraints])),
        unscored=[name for name in record.objectives if name != "score"],
        scored=any(one.dev for one in record.finalists),
        on_dev_items=any(text.measured_on(name) == text.measured_on("score") for name in record.objectives),
        trials={row.number: row for row in record.trials},
        outcomes=[(said, outcomes[kind]) for kind, said in _OUTCOMES.items() if kind in outcomes],
        loss_and_score=list(sentences(record)),
        restarted=[f"{row.number} ({row.attempts} attempts)" for row in record.trials if row.attempts > 1],
        run_link=run_link,
        version_link=version_link,
        spread_of=spread_of,
        facts=facts,
        text=text,
    )


def _outcome(row: TrialRow) -> str:
    if row.failure in _OUTCOMES:
        return str(row.failure)
    if row.state == "pruned" and row.reason:
        return "raced"
    return "refused" if row.state == "complete" and not row.feasible else row.state
