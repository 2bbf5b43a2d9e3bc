"""A study as a page: the description of its run in MLflow, and report.md."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from tunery.records import StudyRecord, TrialRow
from tunery.reporting.text import cell, code, counted, duration, linked, listed, measured_on, one_line, shown
from tunery.search.report.facts import best_first, complete, mean, pareto
from tunery.search.report.finalists import finalists_section
from tunery.search.report.verdict import study_verdict

_TOP = 10
_MORE_TRIALS = 10
_RunLink = Callable[[str], str]

_OUTCOMES = {
    "complete": "complete",
    "refused": "complete, but a constraint is not met",
    "pruned": "stopped early by the pruner",
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
    run_link: Callable[[str], str] | None = None,
    version_link: Callable[[str], str] | None = None,
) -> str:
    """The study in Markdown: verdict, finalists, the best trials, outcomes, constraints, cost, next steps.

    Args:
        run_link: Address of a run's page, given its id; without it, trials are not linked.
        version_link: Address of the page of a registered version, given "name/3".
    """
    link = run_link or _nowhere
    parts = [
        _heading(record),
        finalists_section(record, link),
        _best(record, link),
        _front(record, link),
        _outcomes(record, link),
        _constraints(record, link),
        _cost(record),
        _next_steps(record, version_link or _nowhere),
    ]
    return "\n".join(part for part in parts if part).rstrip() + "\n"


def _nowhere(_: str) -> str:
    return ""


def _heading(record: StudyRecord) -> str:
    goals = ", ".join(f"{direction} {code(name)}" for name, direction in record.objectives.items())
    lines = [
        f"# {record.name}",
        "",
        study_verdict(record),
        "",
        f"{counted(len(record.trials), 'trial')} of project {code(record.project)}: {goals}; sampler {record.sampler}, "
        f"pruner {record.pruner}, seed {record.seed}.",
    ]
    return "\n".join([*lines, *(f"\n> {' '.join(note.split())}" for note in record.notes), ""])


# ---- trials


def _best(record: StudyRecord, link: _RunLink) -> str:
    rows = best_first(record)
    if not rows:
        return ""
    shown_rows = rows[:_TOP]
    title = "The trials" if len(rows) <= _TOP else f"The best {_TOP} of {len(rows)} complete trials"
    first = next(iter(record.objectives))
    lines = [f"## {title}, by {code(first)}{measured_on(first)}", "", *_trial_table(shown_rows, record, link)]
    if any(not row.feasible for row in shown_rows):
        lines += ["", "† does not meet a constraint."]
    return "\n".join([*lines, ""])


def _trial_table(rows: Sequence[TrialRow], record: StudyRecord, link: _RunLink) -> list[str]:
    metrics = list(dict.fromkeys([*record.objectives, *record.constraints]))
    # The time has a column of its own.
    timed = "" if "train_seconds" in metrics else " time |"
    head = "| trial | " + "".join(f"{name} | " for name in metrics) + "settings |" + timed
    rule = "| ---: | " + "---: | " * len(metrics) + "--- |" + (" ---: |" if timed else "")
    return [head, rule, *(_trial_row(row, metrics, link, bool(timed)) for row in rows)]


def _trial_row(row: TrialRow, metrics: Sequence[str], link: _RunLink, timed: bool) -> str:
    mark = "" if row.feasible else " †"
    cells = "".join(f"{shown(name, row.values.get(name, row.metrics.get(name)))} | " for name in metrics)
    seconds = f" {duration(row.seconds)} |" if timed else ""
    return f"| {linked(str(row.number), row.run_id, link)}{mark} | {cells}{cell(row.name)} |{seconds}"


def _front(record: StudyRecord, link: _RunLink) -> str:
    if len(record.objectives) < 2:
        return ""
    numbers = pareto(record)
    by_number = {row.number: row for row in record.trials}
    if not numbers:
        return "## Pareto front\n\nEmpty: no complete trial meets every constraint.\n"
    said = "No other trial is at least as good as one of these in every objective and better in one."
    rows = [by_number[one] for one in numbers]
    return "\n".join(["## Pareto front", "", said, "", *_trial_table(rows, record, link), ""])


def _outcomes(record: StudyRecord, link: _RunLink) -> str:
    groups: dict[str, list[TrialRow]] = defaultdict(list)
    for row in sorted(record.trials, key=lambda row: row.number):
        groups[_kind(row)].append(row)
    lines = ["## Outcomes", "", "| outcome | trials | which |", "| --- | ---: | --- |"]
    for kind, said in _OUTCOMES.items():
        if rows := groups.get(kind, []):
            lines.append(f"| {said} | {len(rows)} | {listed([_which(row, link) for row in rows])} |")
    reasons = [row for row in record.trials if row.failure is not None and row.reason]
    if reasons:
        lines += ["", *(f"- Trial {row.number}: {code(one_line(row.reason or ''))}" for row in reasons[:_TOP])]
    again = [row for row in record.trials if row.attempts > 1]
    if again:
        times = listed([f"{row.number} ({row.attempts} attempts)" for row in again])
        lines += ["", f"Started more than once because a worker died: {times}."]
    return "\n".join([*lines, ""])


def _kind(row: TrialRow) -> str:
    if row.failure in _OUTCOMES:
        return str(row.failure)
    return "refused" if row.state == "complete" and not row.feasible else row.state


def _which(row: TrialRow, link: _RunLink) -> str:
    return linked(str(row.number), row.run_id, link)


def _constraints(record: StudyRecord, link: _RunLink) -> str:
    if not record.constraints:
        return ""
    refused = [row for row in complete(record) if not row.feasible]
    never = [row for row in record.trials if row.failure == "infeasible"]
    bounds = ", ".join(code(f"{name} {bound}") for name, bound in record.constraints.items())
    lines = ["## Constraints", "", f"Required: {bounds}.", ""]
    met = (
        "Every complete trial met them."
        if not refused
        else f"{counted(len(refused), 'complete trial')} did not meet them and cannot win."
    )
    early = f" {counted(len(never), 'trial')} {'was' if len(never) == 1 else 'were'} found infeasible and not started."
    lines.append(met + (early if never else ""))
    if refused:
        lines += ["", *_refused_table(refused, record, link)]
    return "\n".join([*lines, ""])


def _refused_table(rows: Sequence[TrialRow], record: StudyRecord, link: _RunLink) -> Iterator[str]:
    yield "| trial | settings |" + "".join(
        f" {cell(f'{name} {bound}')} |" for name, bound in record.constraints.items()
    )
    yield "| ---: | --- |" + " ---: |" * len(record.constraints)
    for row in rows[:_TOP]:
        cells = "".join(f" {shown(name, row.metrics.get(name))} |" for name in record.constraints)
        yield f"| {_which(row, link)} | {cell(row.name)} |{cells}"


# ---- cost, and next steps


def _cost(record: StudyRecord) -> str:
    timed = [row for row in record.trials if row.seconds is not None]
    if not timed:
        return ""
    total = sum(row.seconds or 0.0 for row in timed)
    whole = f", {duration(record.seconds)} of wall time, finalists included" if record.seconds > 0 else ""
    lines = ["## Cost", "", f"- {duration(total)} of trials in total{whole}."]
    done, stopped = (
        [row.seconds or 0.0 for row in timed if row.state == state and row.failure is None]
        for state in ("complete", "pruned")
    )
    if done:
        lines.append(f"- A complete trial took {duration(mean(done))} on average.")
    if stopped:
        lines.append(f"- A pruned trial took {duration(mean(stopped))} on average.")
    lost = sum(row.seconds or 0.0 for row in timed if row.failure is not None)
    if lost >= 0.05:
        lines.append(f"- {duration(lost)} went into trials without a result.")
    return "\n".join([*lines, ""])


def _next_steps(record: StudyRecord, version_link: Callable[[str], str]) -> str:
    lines = ["## Next steps", ""]
    if record.model_version is not None:
        # MLflow's own page of the study says "Registered models: None": the version's run is a child's.
        whose = "The best trial's adapter" if record.winner is None else "The adapter of the winner's best seed"
        version = linked(f"`models:/{record.model_version}`", record.model_version, version_link)
        lines += [
            f"{whose} is registered as {version}.",
            "",
            "```bash",
            f"tunery evaluate models:/{record.model_version}",
            "```",
            "",
        ]
    more = len(record.trials) + _MORE_TRIALS
    lines += [
        f"For more trials, run the same command with a larger total, here {_MORE_TRIALS} more. The study is "
        "resumed, and nothing is repeated.",
        "",
        "```bash",
        f"tunery tune ... --trials {more}",
        "```",
        "",
    ]
    return "\n".join(lines)
