"""A verdict as a table for the terminal, and as the page that becomes the promotion run's description."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tunery.config.promotion import Form, PromotionConfig
from tunery.promotion.gates import Decision, Evidence, FormScore, Gate
from tunery.records import SCORE
from tunery.reporting.text import counted, number, p_cell

_FORMS: dict[Form, str] = {
    "trained": "adapter over the base as it was trained",
    "adapter": "adapter over 16-bit weights",
    "merged": "merged into 16-bit weights",
}


@dataclass(frozen=True)
class Verdict:
    """A decision with its circumstances.

    Args:
        rules: The rules that the gates used.
        rules_from: Which project the rules come from.
        who, at, commit: Who decided, when (ISO 8601), with which code.
        forced: The reason for moving the aliases whatever the gates decide; None if not forced.
    """

    evidence: Evidence
    decision: Decision
    rules: PromotionConfig
    rules_from: str
    who: str
    at: str
    commit: str | None = None
    forced: str | None = None

    @property
    def word(self) -> str:
        """accepted, forced or refused."""
        if self.decision.accepted:
            return "accepted"
        return "forced" if self.forced is not None and self.evidence.overtaken is None else "refused"

    @property
    def moves(self) -> bool:
        """Whether the aliases move."""
        return self.word != "refused"


def headline(verdict: Verdict) -> str:
    """The decision in one sentence."""
    evidence, failed = verdict.evidence, verdict.decision.refusals
    baseline = f"champion {evidence.champion}" if evidence.champion else "the base alone: there is no champion yet"
    sentence = f"{evidence.candidate} against {baseline}: {verdict.word}"
    if verdict.word == "forced":
        sentence += f" ({verdict.forced})"
    return f"{sentence}, {counted(len(failed), 'gate')} not passed." if failed else f"{sentence}."


def verdict_table(verdict: Verdict) -> RenderableType:
    """Every gate with its reason, then the decision."""
    table = Table(title=f"Gates of {verdict.rules_from}", title_justify="left")
    for name in ("gate", "", "reason"):
        table.add_column(name, overflow="fold")
    for gate in verdict.decision.gates:
        table.add_row(Text(gate.name), _mark(gate), Text(gate.reason))
    style = "bold green" if verdict.word == "accepted" else "bold yellow" if verdict.moves else "bold red"
    notes = [Text(note) for note in (*_not_deployed(verdict), *verdict.evidence.notes)]
    return Group(table, *notes, Text(headline(verdict), style=style))


def _not_deployed(verdict: Verdict) -> Iterator[str]:
    """Scores of the other forms, for people who may export one of them."""
    for name, form in verdict.evidence.forms.items():
        if name != verdict.rules.deploy and form.score is not None and form.drift is not None:
            far = f", beyond {verdict.rules.max_drift:g}" if abs(form.drift) > verdict.rules.max_drift else ""
            yield f"Not deployed: {_FORMS[name]}, which scores {form.score:.4f} ({form.drift:+.4f}{far})."


def markdown(verdict: Verdict) -> str:
    """The whole decision as a page."""
    parts = [_head(verdict), _gates(verdict), _scores(verdict), _forms(verdict), _rules(verdict)]
    return "\n".join(part for part in parts if part).rstrip() + "\n"


def _head(verdict: Verdict) -> str:
    commit = f", project at commit `{verdict.commit[:12]}`" if verdict.commit else ""
    lines = [f"# {verdict.evidence.candidate}: {verdict.word}", "", f"**{plain(headline(verdict))}**", ""]
    lines.append(f"By {plain(verdict.who)}, {verdict.at}{commit}.")
    return "\n".join([*lines, *(f"\n> {plain(note)}" for note in verdict.evidence.notes), ""])


def _gates(verdict: Verdict) -> str:
    rows = [
        f"| {_cell(gate.name)} | {'passed' if gate.passed else '**not passed**'} | {_cell(gate.reason)} |"
        for gate in verdict.decision.gates
    ]
    return "\n".join(["## Gates", "", "| gate | | reason |", "| --- | --- | --- |", *rows, ""])


def _scores(verdict: Verdict) -> str:
    rows = list(_score_rows(verdict.evidence))
    if not rows:
        return ""
    interval = f"{verdict.rules.confidence:g} interval"
    lines = [
        "## Scores on locked items, paired item by item",
        "",
        f"| what | baseline | items | candidate | baseline's score | difference | {interval} | p | test |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- | ---: | --- |",
    ]
    return "\n".join([*lines, *rows, ""])


def _score_rows(evidence: Evidence) -> Iterator[str]:
    for one in evidence.differences:
        what = SCORE if one.what == SCORE else f"{one.what} ({one.metric})"
        d = one.difference
        yield (
            f"| {_cell(what)} | {one.baseline} | {d.items} | {d.score:.4f} | {d.baseline:.4f} | {d.value:+.4f} | "
            f"{d.low:+.4f} to {d.high:+.4f} | {p_cell(d.p_value)} | {d.test} |"
        )


def _forms(verdict: Verdict) -> str:
    if not verdict.evidence.forms:
        return ""
    lines = [
        "## Deployment forms, on the same items",
        "",
        "| form | score | drift | items that changed | largest change of a log-likelihood |",
    ]
    rows = [_form_row(name, form, verdict.rules.deploy) for name, form in verdict.evidence.forms.items()]
    return "\n".join([*lines, "| --- | ---: | ---: | ---: | ---: |", *rows, ""])


def _form_row(name: Form, form: FormScore, deployed: Form) -> str:
    what = f"{name}: {_FORMS[name]}{' (deployed)' if name == deployed else ''}"
    if form.score is None or form.drift is None:
        return f"| {what} | {_cell(form.fault or 'not measured')} | – | – | – |"
    changed = f"{form.changed} of {form.items}"
    return f"| {what} | {form.score:.4f} | {form.drift:+.4f} | {changed} | {number(form.loglikelihood)} |"


def _rules(verdict: Verdict) -> str:
    rows = [f"| `promotion.{key}` | `{value}` |" for key, value in verdict.rules.model_dump(mode="json").items()]
    lines = ["## Rules", "", f"From {plain(verdict.rules_from)}.", "", "| key | value |", "| --- | --- |"]
    return "\n".join([*lines, *rows, ""])


def _mark(gate: Gate) -> Text:
    return Text("passed", style="green") if gate.passed else Text("refused", style="red")


def plain(text: str) -> str:
    """A person's text as one line of a page, which can start no heading and open no tag."""
    return " ".join(text.split()).replace("<", "&lt;")


def _cell(text: str) -> str:
    return plain(text).replace("|", "\\|")
