"""The page and the table of a decision."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console, RenderableType

from tunery.config.promotion import PromotionConfig
from tunery.promotion.gates import Evidence, decide
from tunery.promotion.report import Verdict, headline, markdown, verdict_table

RULES = PromotionConfig(guard={"truthfulqa": -0.01})


def printed(renderable: RenderableType) -> str:
    console = Console(width=200, record=True, file=None, force_terminal=False)
    with console.capture() as shown:
        console.print(renderable)
    return shown.get()


def verdict_of(evidence: Evidence, forced: str | None = None, rules: PromotionConfig = RULES) -> Verdict:
    return Verdict(
        evidence, decide(evidence, rules), rules, "projects/small", "ann", "2026-01-02T03:04:05+00:00", forced=forced
    )


def test_the_page_holds_gates_scores_forms_and_rules(good: Evidence) -> None:
    page = markdown(verdict_of(good))
    assert page.startswith("# small/2: accepted\n\n**small/2 against champion small/1: accepted.**\n")
    assert (
        "| better than the champion | passed | gain +0.1000 [+0.0800, +0.1200] on 200 locked items, above 0 |" in page
    )
    assert "| truthfulqa (mc2) | base | 200 | 0.5500 | 0.5000 | +0.0500 | +0.0300 to +0.0700 |" in page
    assert "| merged: merged into 16-bit weights | 0.5700 | -0.0300 | 6 of 200 | 0.4000 |" in page
    assert "| `promotion.guard` | `{'truthfulqa': -0.01}` |" in page


@pytest.mark.parametrize(
    ("forced", "overtaken", "word", "moves"),
    [
        (None, None, "refused", False),
        ("the base cannot spell", None, "forced", True),
        ("the base cannot spell", "small: the champion is version 9 by now", "refused", False),
    ],
)
def test_force_moves_past_gates_but_not_past_an_earlier_promotion(
    good: Evidence, forced: str | None, overtaken: str | None, word: str, moves: bool
) -> None:
    verdict = verdict_of(replace(good, license=None, overtaken=overtaken), forced)
    assert (verdict.word, verdict.moves) == (word, moves)


def test_a_forced_decision_says_why_and_past_what(good: Evidence) -> None:
    said = headline(verdict_of(replace(good, license=None), "the terms were bought"))
    assert said == "small/2 against champion small/1: forced (the terms were bought), 1 gate not passed."


def test_a_reason_cannot_break_out_of_its_cell(good: Evidence) -> None:
    page = markdown(verdict_of(replace(good, load_fault="a|b\n<img src=x>")))
    assert "| loads in a fresh process | **not passed** | a\\|b &lt;img src=x> |" in page
    assert "[/red]" in printed(verdict_table(verdict_of(replace(good, load_fault="[/red]"))))


def test_a_reason_starts_no_heading_and_opens_no_tag_in_the_page(good: Evidence) -> None:
    page = markdown(verdict_of(replace(good, license=None), "bought\n# Gates\n<script>"))
    assert "forced (bought # Gates &lt;script>), 1 gate" in page
    assert "\n# Gates" not in page


def test_the_table_shows_what_the_forms_that_are_not_deployed_would_score(good: Evidence) -> None:
    shown = printed(verdict_table(verdict_of(good)))
    assert "Not deployed: merged into 16-bit weights, which scores 0.5700 (-0.0300, beyond 0.01)." in shown
    assert "Not deployed: adapter over the base as it was trained" not in shown
