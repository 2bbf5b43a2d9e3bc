"""A verdict as a table for the terminal, and as the page that becomes the promotion run's description."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tunery.config.promotion import Form, PromotionConfig
from tunery.promotion.gates import Decision, Evidence
from tunery.records.scores import SCORE
from tunery.reporting import templates
from tunery.reporting.text import counted, interval, number, p_cell, signed

_FORMS: dict[Form, str] = {
    "trained": "adapter over the base as it was trained",
    "adapter": "adapter over 16-bit weights",
    "merged": "merged into 16-bit weights",
}


@dataclass(frozen=True)
class Verdict:
    """A decision with its circumstances."""

    evidence: Evidence
    decision: Decision
    rules: PromotionConfig
    rules_from: str  # which project the rules come from
    who: str
    at: str  # ISO 8601
    commit: str | None = None  # of the code
    forced: str | None = None  # the reason for moving the aliases whatever the gates decide; None if not forced

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
        mark = Text("passed", style="green") if gate.passed else Text("refused", style="red")
        table.add_row(Text(gate.name), mark, Text(gate.reason))
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
    values = {"forms": _FORMS, "score": SCORE, "headline": plain(headline(verdict)), "plain": plain, "cell": _cell}
    words = {"number": number, "signed": signed, "interval": interval, "p_cell": p_cell}
    return templates.markdown("tunery.promotion", "decision.md.j2", verdict=verdict, **values, **words)


def plain(text: str) -> str:
    """A person's text as one line of a page, which can start no heading and open no tag."""
    return " ".join(text.split()).replace("<", "&lt;")


def _cell(text: str) -> str:
    return plain(text).replace("|", "\\|")
