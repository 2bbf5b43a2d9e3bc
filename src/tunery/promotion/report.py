"""A decision as people read it: a table for the terminal, a page that is the promotion run's description."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tunery.config.promotion import Form, PromotionConfig
from tunery.promotion.evidence import SCORE, Evidence, FormScore
from tunery.promotion.gates import Decision, Gate

_FORMS: dict[Form, str] = {
    "trained": "adapter over the base as it was trained",
    "adapter": "adapter over 16-bit weights",
    "merged": "merged into 16-bit weights",
}


@dataclass(frozen=True)
class Verdict:
    """A decision with what was done about it.

    Args:
        forced: The reason that somebody gave for moving the aliases all the same; None without.
        rules: By which the gates judged.
        rules_from: Where the rules stand.
        who, at, commit: Who decided, when (ISO 8601), with which code.
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
    rival = f"champion {evidence.champion}" if evidence.champion else "the base alone: there is no champion yet"
    said = f"{evidence.candidate} against {rival}: {verdict.word}"
    if verdict.word == "forced":
        return f"{said} ({verdict.forced}) past {_counted(len(failed))} not passed."
    return f"{said}." if not failed else f"{said}, {_counted(len(failed))} not passed."


def gates_table(verdict: Verdict) -> RenderableType:
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
    """What the other forms would score: who exports one of them should know."""
    for name, form in verdict.evidence.forms.items():
        if name != verdict.rules.deploy and form.score is not None and form.drift is not None:
            far = f", beyond {verdict.rules.max_drift:g}" if abs(form.drift) > verdict.rules.max_drift else ""
            yield f"Not deployed: {_FORMS[name]} it scores {form.score:.4f} ({form.drift:+.4f}{far})."


def markdown(verdict: Verdict) -> str:
    """The whole decision as a page."""
    parts = [_head(verdict), _gates(verdict), _scores(verdict), _forms(verdict), _rules(verdict)]
    return "\n".join(part for part in parts if part).rstrip() + "\n"


def _head(verdict: Verdict) -> str:
    commit = f", tunery's project at commit `{verdict.commit[:12]}`" if verdict.commit else ""
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
    head = f"| what | against | items | candidate | rival | difference | {verdict.rules.confidence:g} interval |"
    lines = [
        "## Scores on locked items, paired item by item",
        "",
        head,
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    return "\n".join([*lines, *rows, ""])


def _score_rows(evidence: Evidence) -> Iterator[str]:
    for one in evidence.compared:
        what = SCORE if one.what == SCORE else f"{one.what} ({one.metric})"
        d = one.difference
        yield (
            f"| {_cell(what)} | {one.against} | {d.items} | {d.score:.4f} | {d.baseline:.4f} | {d.value:+.4f} | "
            f"{d.low:+.4f} to {d.high:+.4f} |"
        )


def _forms(verdict: Verdict) -> str:
    if not verdict.evidence.forms:
        return ""
    lines = [
        "## The forms, on the same items",
        "",
        "| form | score | drift | items that changed | log-likelihood, at most |",
    ]
    rows = [_form_row(name, form, verdict.rules.deploy) for name, form in verdict.evidence.forms.items()]
    return "\n".join([*lines, "| --- | ---: | ---: | ---: | ---: |", *rows, ""])


def _form_row(name: Form, form: FormScore, deployed: Form) -> str:
    what = f"{name}: {_FORMS[name]}{' (deployed)' if name == deployed else ''}"
    if form.score is None or form.drift is None:
        return f"| {what} | {_cell(form.fault or 'not measured')} | – | – | – |"
    logs = "–" if form.loglikelihood is None else f"{form.loglikelihood:.4f}"
    return f"| {what} | {form.score:.4f} | {form.drift:+.4f} | {form.changed} of {form.items} | {logs} |"


def _rules(verdict: Verdict) -> str:
    rows = [f"| `promotion.{key}` | `{value}` |" for key, value in verdict.rules.model_dump(mode="json").items()]
    lines = ["## Rules", "", f"From {plain(verdict.rules_from)}.", "", "| key | value |", "| --- | --- |"]
    return "\n".join([*lines, *rows, ""])


def _mark(gate: Gate) -> Text:
    return Text("passed", style="green") if gate.passed else Text("refused", style="red")


def _counted(number: int) -> str:
    return "1 gate" if number == 1 else f"{number} gates"


def plain(text: str) -> str:
    """A text that somebody gave, as one line of a page: it starts no heading and opens no tag."""
    return " ".join(text.split()).replace("<", "&lt;")


def _cell(text: str) -> str:
    return plain(text).replace("|", "\\|")


_STYLES = {"accepted": "green", "forced": "yellow", "rolled back": "cyan", "refused": "red"}


@dataclass(frozen=True)
class Event:
    """One decision about a model's champion.

    Args:
        version: "quickstart/3"; the run of a refused candidate that was never registered.
        decision: accepted, forced, rolled back or refused.
        began: When the aliases moved, or when it was refused; ISO 8601.
        until: When the next champion came; None for the one that is champion now, and for a refused one.
        score, rival_score: On locked items, of the version and of the champion before; None where nobody measured.
        over_champion, over_base: Gains with their intervals, as text; "" where there are none.
    """

    version: str
    decision: str
    began: str
    until: str | None
    by: str
    reason: str
    score: float | None = None
    rival_score: float | None = None
    over_champion: str = ""
    over_base: str = ""


def history_table(name: str, events: Sequence[Event], notes: Sequence[str] = ()) -> RenderableType:
    """One row a decision, oldest first; the champion of now is the last that has no end."""
    if not events:
        return Group(Text(f"{name}: nobody was promoted yet."), *map(Text, notes))
    table = Table(title=f"Champions of {name}, times in UTC", title_justify="left", box=SIMPLE_HEAD)
    for column in ("version", "decision", "from", "until", "by", "score", "gain over champion", "over base", "why"):
        table.add_column(column, justify="right" if column == "score" else "left", overflow="fold")
    for event in events:
        table.add_row(
            Text(event.version.removeprefix(f"{name}/")),  # the title names the model
            Text(event.decision, style=_STYLES.get(event.decision, "")),
            _when(event.began),
            _until(event),
            Text(event.by),
            _scores_history(event),
            event.over_champion or "–",
            event.over_base or "–",
            Text(event.reason),
        )
    return Group(table, *map(Text, notes))


def _until(event: Event) -> str:
    if event.decision == "refused":
        return "–"
    return "now" if event.until is None else _when(event.until)


def _scores_history(event: Event) -> str:
    if event.score is None:
        return "–"
    before = "" if event.rival_score is None else f" (champion {event.rival_score:.4f})"
    return f"{event.score:.4f}{before}"


def _when(moment: str) -> str:
    return moment[:16].replace("T", " ")
