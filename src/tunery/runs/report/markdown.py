"""One run as a page: report.md, which is also the run's description in the MLflow UI."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jinja2 import Environment, PackageLoader

from tunery.config.suites import MEASURES
from tunery.records.runs import ContextFacts, RunRecord
from tunery.records.scores import TaskResult
from tunery.reporting.answers import changed, chosen, majority
from tunery.reporting.base_fit import far_warning, fit_sentence
from tunery.reporting.rank_correlation import correlation_meaning
from tunery.reporting.text import cell, interval, number, p_cell, p_value, plus_minus, signed
from tunery.runs.report.answers import answers_by_task, changes_by_task, remarks
from tunery.runs.report.checkpoints import checkpoint_correlation
from tunery.statistics.paired import TaskDifference, compare_tasks
from tunery.statistics.significance import CONFIDENCE

_ENVIRONMENT = Environment(
    loader=PackageLoader("tunery.runs.report", "."), trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
)

_MOST_ANSWERS = 6


def run_report(record: RunRecord) -> str:
    """The run in Markdown: verdict, scores beside the base's own, text metrics, training, data, how to use it."""
    identity = record.identity
    if record.tuned or not record.base:
        pairs = compare_tasks(record.base, record.tuned, record.primary, record.split)
        headline = f"{verdict(pairs, record.split)} {parent_verdict(record)}".rstrip()
    else:
        headline = f"{base_verdict(record)} The model has no adapter, so there is no gain to report."
    answers, changes = answers_by_task(record), changes_by_task(record)
    kind, colon, digits = identity.revision.rpartition(":")
    return _ENVIRONMENT.get_template("report.md.j2").render(
        run=record,
        headline=headline,
        revision=f"{kind}{colon}{digits[:12]}",  # of a commit, or of a hash with its name before it
        weights="not quantised" if identity.quantization == "none" else identity.quantization,
        pairs=compare_tasks(record.base, record.tuned, record.shown, record.split),
        parents={pair.task: pair for pair in parent_pairs(record)},
        items="items" if record.split == "all" else f"{record.split} items",
        confidence=f"{CONFIDENCE:.0%}",
        metrics=list(_metric_rows(record)),
        answers=answers,
        far=far_warning(record.fit, identity.model) if record.fit else None,
        fit_sentence=fit_sentence,
        remarks=remarks(record, answers, changes),
        answers_shown=_answers_shown,
        measures={task: MEASURES[task] for task in record.shown if task in MEASURES},
        divergence=_divergence(record),
        counts_line_break=_counts_line_break(record),
        correlation=checkpoint_correlation(record.trained.history) if record.trained else None,
        correlation_meaning=correlation_meaning,
        no_first_step=_no_first_step(record),
        majority=majority,
        chosen=chosen,
        changes=changes,
        changed=changed,
        cell=cell,
        named=named,
        number=number,
        signed=signed,
        interval=interval,
        p_cell=p_cell,
    )


def verdict(pairs: Sequence[TaskDifference], split: str = "all") -> str:
    """One sentence: did the adapter beat its base, and could that be chance?"""
    if not pairs:
        return "Nothing was scored."
    signs = [1 if p.higher_is_better else -1 for p in pairs]  # a perplexity counts with a minus, as in `score`
    base = sum(sign * p.base for sign, p in zip(signs, pairs, strict=True)) / len(pairs)
    tuned = sum(sign * p.tuned for sign, p in zip(signs, pairs, strict=True)) / len(pairs)
    names = [f"{p.task} ({p.delta:+.3f}, p {p_value(p.difference.p_value)})" for p in pairs]
    where = "" if split == "all" else f" on the {split} items"
    return f"Score {tuned:.3f}, base {base:.3f}, gain {tuned - base:+.3f}{where}: {', '.join(names)}."


def parent_pairs(record: RunRecord) -> list[TaskDifference]:
    """The tuned model beside the adapter that its training began with; empty where it began with a new one."""
    return compare_tasks(record.parent, record.tuned, record.shown, record.split)


def parent_verdict(record: RunRecord) -> str:
    """One sentence on the gain over the adapter that training began with; empty where it began with a new one."""
    pairs = compare_tasks(record.parent, record.tuned, record.primary, record.split)
    if not pairs:
        return ""
    signs = [1 if p.higher_is_better else -1 for p in pairs]
    parent, gain = (
        sum(sign * value for sign, value in zip(signs, values, strict=True)) / len(pairs)
        for values in ([p.base for p in pairs], [p.delta for p in pairs])
    )
    names = [f"{p.task} ({p.delta:+.3f}, p {p_value(p.difference.p_value)})" for p in pairs]
    over = f"Over {record.start}, from which it was trained on: score {parent + gain:.3f}, parent {parent:.3f}"
    return f"{over}, gain {gain:+.3f}: {', '.join(names)}."


def base_verdict(record: RunRecord) -> str:
    """One sentence for a model without an adapter: its own scores."""
    named = (
        (task, record.base[task].scores.get(metric)) for task, metric in record.primary.items() if task in record.base
    )
    return "Scores: " + ", ".join(f"{task} {number(score.value, 3)}" for task, score in named if score) + "."


def _answers_shown(context: ContextFacts) -> str:
    """How many examples have each answer, where answers repeat."""
    counts = sorted(context.answers.items(), key=lambda pair: (-pair[1], pair[0]))
    if len(counts) > _MOST_ANSWERS or counts[0][1] == 1:
        return ""
    return f" Their answers: {', '.join(f'{answer!r} {count} times' for answer, count in counts)}."


def _divergence(record: RunRecord) -> float | None:
    """Between teacher and student at the kept checkpoint, on validation rows."""
    trained = record.trained
    found = [
        metrics.values["validation/kl"]
        for metrics in (trained.history if trained else ())
        if trained and metrics.step == trained.kept_step and "validation/kl" in metrics.values
    ]
    return found[0] if found else None


def _counts_line_break(record: RunRecord) -> bool:
    """Whether a score may hold the log-likelihood of white space that a chat template writes before an answer."""
    results = record.tuned or record.base
    asked = ((results[task], metric) for task, metric in record.shown.items() if task in results)
    return any(
        result.settings.chat_template and metric.startswith(("acc_norm", "acc_bytes")) for result, metric in asked
    )


def _no_first_step(record: RunRecord) -> bool:
    """Whether the first step had a learning rate of 0, which transformers' warm-up begins with."""
    history = record.trained.history if record.trained else ()
    rates = [step.values["train/learning_rate"] for step in history if "train/learning_rate" in step.values]
    return bool(rates) and history[0].step == 1 and rates[0] == 0


def _metric_rows(record: RunRecord) -> Iterator[tuple[str, ...]]:
    for task, result in (record.tuned or record.base).items():
        for metric in result.scores:
            base, tuned = record.base.get(task), record.tuned.get(task)
            before, after = (side.scores.get(metric) if side else None for side in (base, tuned))
            delta = signed(after.value - before.value) if before and after else "–"
            yield task, metric, with_error(base, metric), with_error(tuned, metric), delta


def named(pair: TaskDifference, record: RunRecord) -> str:
    """A task's name, and whether it is left out of the score."""
    return pair.task if pair.task in record.primary else f"{pair.task} (not in the score)"


def with_error(result: TaskResult | None, metric: str) -> str:
    """A score with its standard error: "0.8125 ± 0.0195"; without one where none is defined, or no answer varies."""
    score = result.scores.get(metric) if result else None
    return plus_minus(score.value, score.stderr or None) if score else "–"
