"""One run as a page: report.md, which is also the run's description in the MLflow UI."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tunery.records import RunRecord, TaskResult
from tunery.reporting.text import interval, number, p_cell, p_value, plus_minus, signed
from tunery.statistics.paired import TaskDifference, compare_tasks
from tunery.statistics.significance import CONFIDENCE


def run_report(record: RunRecord) -> str:
    """The run in Markdown: verdict, scores beside the base's own, text metrics, training, data, how to use it."""
    pairs = compare_tasks(record.base, record.tuned, record.primary, record.split)
    parts = [
        _heading(record, pairs),
        _scores(record),
        _other_metrics(record),
        _text(record),
        _training(record),
        _data(record),
        _use(record),
    ]
    return "\n".join(part for part in parts if part).rstrip() + "\n"


def verdict(pairs: Sequence[TaskDifference], split: str = "all") -> str:
    """One sentence: did the adapter beat its base, and could that be chance?"""
    if not pairs:
        return "Nothing was scored."
    signs = [1 if p.higher_is_better else -1 for p in pairs]  # a perplexity counts with a minus, as in `score`
    base, tuned = (
        sum(side) / len(pairs)
        for side in (
            [sign * p.base for sign, p in zip(signs, pairs, strict=True)],
            [sign * p.tuned for sign, p in zip(signs, pairs, strict=True)],
        )
    )
    names = [f"{p.task} ({p.delta:+.3f}, p {p_value(p.difference.p_value)})" for p in pairs]
    where = "" if split == "all" else f" on the {split} items"
    return f"Score {tuned:.3f}, base {base:.3f}, gain {tuned - base:+.3f}{where}: {', '.join(names)}."


def _heading(record: RunRecord, pairs: Sequence[TaskDifference]) -> str:
    identity = record.identity
    weights = "not quantised" if identity.quantization == "none" else identity.quantization
    lines = [f"# {record.project}", "", f"**{_headline(record, pairs)}**", ""]
    base = f"`{identity.model}` at `{_short(identity.revision)}`"
    lines.append(f"Base {base}, weights {weights}, chat template {identity.chat_template}.")
    return "\n".join([*lines, *(f"\n> {note}" for note in record.notes), ""])


def _short(revision: str) -> str:
    """The first 12 digits of a commit or of a hash, with the hash's name."""
    kind, colon, digits = revision.rpartition(":")
    return f"{kind}{colon}{digits[:12]}"


def _headline(record: RunRecord, pairs: Sequence[TaskDifference]) -> str:
    if record.tuned or not record.base:
        return verdict(pairs, record.split)
    return f"{base_verdict(record)} The model has no adapter, so there is no gain to report."


def base_verdict(record: RunRecord) -> str:
    """One sentence for a model without an adapter: its own scores."""
    named = (
        (task, record.base[task].scores.get(metric)) for task, metric in record.primary.items() if task in record.base
    )
    return "Scores: " + ", ".join(f"{task} {number(score.value, 3)}" for task, score in named if score) + "."


def _scores(record: RunRecord) -> str:
    pairs = compare_tasks(record.base, record.tuned, record.shown, record.split)
    if not pairs:
        return ""
    items = "items" if record.split == "all" else f"{record.split} items"
    lines = [
        "## Scores",
        "",
        f"| task | metric | {items} | base | tuned | delta | {CONFIDENCE:.0%} interval | p | test |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- | ---: | --- |",
    ]
    lines += [
        f"| {named(p, record)} | {p.metric} | {p.items} | {number(p.base)} | {number(p.tuned)} | {signed(p.delta)} | "
        f"{interval(p.low, p.high, sign=True)} | {p_cell(p.difference.p_value)} | {p.difference.test} |"
        for p in pairs
    ]
    if record.split == "locked":
        lines += [
            "",
            "The checkpoint was chosen on dev items, so the table shows only locked items.",
        ]
    if record.split == "dev":
        lines += ["", "A trial of a study: trials are compared by these scores, so the best one's score is optimistic."]
    return "\n".join([*lines, ""])


def _other_metrics(record: RunRecord) -> str:
    rows = list(_metric_rows(record))
    if not rows:
        return ""
    heading = [
        "## All metrics, all items",
        "",
        "| task | metric | base | tuned | delta |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    return "\n".join([*heading, *rows, ""])


def _metric_rows(record: RunRecord) -> Iterator[str]:
    for task, result in (record.tuned or record.base).items():
        for metric in result.scores:
            before, after = (with_error(side.get(task), metric) for side in (record.base, record.tuned))
            yield f"| {task} | {metric} | {before} | {after} | {_delta(record, task, metric)} |"


def _delta(record: RunRecord, task: str, metric: str) -> str:
    sides = [side[task].scores.get(metric) for side in (record.base, record.tuned) if task in side]
    if len(sides) < 2 or sides[0] is None or sides[1] is None:
        return "–"
    return signed(sides[1].value - sides[0].value)


def named(pair: TaskDifference, record: RunRecord) -> str:
    """A task's name, and whether it is left out of the score."""
    return pair.task if pair.task in record.primary else f"{pair.task} (not in the score)"


def with_error(result: TaskResult | None, metric: str) -> str:
    """A score with its standard error: "0.8125 ± 0.0195"; without one where none is defined."""
    score = result.scores.get(metric) if result else None
    return plus_minus(score.value, score.stderr) if score else "–"


def _text(record: RunRecord) -> str:
    if not record.tuned_text:
        return ""
    lines = ["## Answers to held-out prompts", "", "| metric | base | tuned |", "| --- | ---: | ---: |"]
    lines += [
        f"| {name} | {number(record.base_text.get(name))} | {number(value)} |"
        for name, value in record.tuned_text.items()
    ]
    return "\n".join([*lines, "", "Side by side in `generations.json` and `generations.xlsx`.", ""])


def _training(record: RunRecord) -> str:
    trained, adapter = record.trained, record.adapter
    if trained is None:
        return ""
    lines = [
        "## Training",
        "",
        f"- Kept the checkpoint of step {trained.kept_step} of {trained.last_step}, chosen by {trained.kept_by}.",
    ]
    if trained.validation_nll is not None:
        lines.append(f"- Validation loss {trained.validation_nll:.4f} nats per target token.")
    if adapter is not None:
        share = adapter.trainable_parameters / max(adapter.total_parameters, 1)
        lines.append(
            f"- {adapter.trainable_parameters:,} of {adapter.total_parameters:,} parameters trained ({share:.2%}), "
            f"in {len(adapter.modules)} modules."
        )
    lines.append(f"- Took {trained.train_seconds:.1f} s; peak memory {trained.peak_memory_bytes / 2**30:.2f} GiB.")
    return "\n".join([*lines, ""])


def _data(record: RunRecord) -> str:
    data = record.data
    if data is None:
        return ""
    lines = [
        "## Data",
        "",
        "| source | format | read | kept | weight | digest |",
        "| --- | --- | ---: | ---: | ---: | --- |",
    ]
    lines += [
        f"| {s.source} | {s.format} | {s.rows_read} | {s.rows_kept} | {s.weight:g} | `{s.digest[:12]}` |"
        for s in data.sources
    ]
    lines += [
        "",
        f"{data.train_rows} training rows, {data.validation_rows} held out, {len(data.drops)} dropped, "
        f"{len(data.truncated)} truncated; {data.target_share:.0%} of the tokens are learned; "
        f"{len(data.contaminated)} rows overlap with evaluation items.",
        *(f"\n{note}" for note in data.notes),
    ]
    return "\n".join([*lines, ""])


def _use(record: RunRecord) -> str:
    if record.model_version is None:
        return ""
    return "\n".join(
        [
            "## Use it",
            "",
            "```python",
            "import mlflow",
            "",
            f'model = mlflow.pyfunc.load_model("models:/{record.model_version}")',
            'model.predict({"messages": [{"role": "user", "content": "..."}]})',
            "```",
            "",
        ]
    )
