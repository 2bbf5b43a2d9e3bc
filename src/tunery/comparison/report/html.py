"""A comparison as one HTML file that needs no network: conclusions, pictures, tables that can be sorted."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import matplotlib as mpl
from jinja2 import Environment, PackageLoader
from matplotlib.figure import Figure

from tunery.comparison.records import Comparison
from tunery.comparison.report.columns import parts
from tunery.comparison.report.conclusions import conclusions
from tunery.comparison.report.plots import figures
from tunery.reporting.text import counted

_CAPTIONS = {
    "leaderboard": "Scores with their intervals. Two intervals may overlap although the pair surely differs: pairs are "
    "compared item by item, which is sharper. On the right, the places that these tests leave open.",
    "matrix": "Rows: what the configurations were trained on. Columns: the tasks that they were scored on.",
    "cost": "On the Pareto front nothing else scores more for less.",
    "ranks": "A bar joins configurations whose average ranks over the tasks may differ by chance.",
    "loss": "One line a seed. Losses of different training data are not comparable.",
    "learning": "Score against the number of rows trained on.",
}
_PIXELS_PER_INCH = 100


def page(comparison: Comparison, notes: Sequence[str] = ()) -> str:
    """The whole comparison on one page, the conclusions on top; a click on a heading sorts its table.

    Args:
        notes: On how the runs were read.
    """
    board = comparison.main
    templates = Environment(loader=PackageLoader("tunery.comparison", "report"), autoescape=True)
    text = templates.get_template("page.html.j2").render(
        title=f"{counted(len(board.contenders), 'configuration')} on {counted(len(board.tasks), 'task')}",
        conclusions=conclusions(comparison),
        confidence=f"{comparison.confidence:.0%}",
        tables=parts(comparison),
        pictures=[_picture(name, figure) for name, figure in figures(comparison).items()],
        notes=notes,
    )
    return f"{text}\n"


def _picture(name: str, figure: Figure) -> dict[str, object]:
    """As SVG, sharp on every screen, and the same bytes every time: no date, no random ids."""
    written = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "tunery"}):
        figure.savefig(written, format="svg", metadata={"Date": None})
    pixels, svg = round(figure.get_figwidth() * _PIXELS_PER_INCH), base64.b64encode(written.getvalue()).decode()
    return {"name": name, "caption": _CAPTIONS[name], "pixels": pixels, "svg": svg}
