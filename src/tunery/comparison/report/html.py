"""A comparison as one HTML file that needs no network: conclusions, pictures, tables that can be sorted."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from html import escape

import matplotlib as mpl
from matplotlib.figure import Figure

from tunery.comparison.records import Comparison
from tunery.comparison.report.columns import TableSection, parts
from tunery.comparison.report.conclusions import conclusions
from tunery.comparison.report.plots import figures
from tunery.reporting.text import counted

_CAPTIONS = {
    "leaderboard": "Scores with their intervals. Two intervals may overlap although the pair surely differs: pairs are "
    "compared item by item, which is sharper. On the right, the places that these tests leave open.",
    "matrix": "Every configuration of a row was trained on that data; a column is what they were asked.",
    "cost": "On the Pareto front nothing else scores more for less.",
    "ranks": "A bar joins configurations whose average ranks over the tasks may differ by chance.",
    "loss": "One line a seed. Losses of different training data are not comparable.",
    "learning": "Score against the number of rows trained on.",
}

_PIXELS_PER_INCH = 100
_STYLE = """
:root { --ink: #1d2329; --faint: #5d6771; --line: #dfe3e8; --paper: #ffffff; --shade: #f5f7f9; --blue: #1a6fb5; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 84rem; padding: 1rem; font: 16px/1.5 system-ui, sans-serif;
       color: var(--ink); background: var(--paper); }
h1 { font-size: 1.5rem; margin: .5rem 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.said { margin: 1rem 0; padding: .75rem 1rem .75rem 2rem; background: var(--shade);
        border-left: 4px solid var(--blue); }
.said li:first-child { font-weight: 600; }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { background: var(--shade); cursor: pointer; user-select: none; }
th.number, td.number { text-align: right; }
.group td { border-top: 2px solid var(--faint); }
td.text { white-space: normal; min-width: 8rem; }
th[aria-sort=ascending]::after { content: " \\25b2"; } th[aria-sort=descending]::after { content: " \\25bc"; }
.note, figcaption { color: var(--faint); font-size: .875rem; margin: .35rem 0; }
figure { margin: 1.5rem 0; }
figure img { max-width: 100%; min-width: 30rem; height: auto; display: block; }
"""

# A column is sorted by its numbers where it has some: "1.5 GiB" by bytes, "2 min 00 s" by seconds, "< 0.001" by 0.001.
_SCRIPT = """
const units = {KiB: 2**10, MiB: 2**20, GiB: 2**30, TiB: 2**40, min: 60, h: 3600, d: 86400};
function size(text) {
  const plain = text.replace(/,/g, '').replace(/^<\\s*/, '');
  if (!/^[-+]?[\\d.]/.test(plain)) return NaN;
  const many = [...plain.matchAll(/([-+]?[\\d.]+) (KiB|MiB|GiB|TiB|min|h|d|s)\\b/g)];
  if (!many.length) return parseFloat(plain);
  return many.reduce((sum, one) => sum + parseFloat(one[1]) * (units[one[2]] || 1), 0);
}
function sort(head) {
  const up = head.getAttribute('aria-sort') === 'descending' ? 1 : -1;
  const body = head.closest('table').tBodies[0];
  const text = row => row.cells[head.cellIndex].textContent;
  const rows = [...body.rows].sort((one, other) => {
    const a = size(text(one)), b = size(text(other));
    if (isNaN(a) || isNaN(b)) return isNaN(a) - isNaN(b) || up * text(one).localeCompare(text(other));
    return up * (a - b);
  });
  for (const other of head.parentNode.cells) other.removeAttribute('aria-sort');
  head.setAttribute('aria-sort', up > 0 ? 'ascending' : 'descending');
  rows.forEach(row => { row.classList.remove('group'); body.append(row); });
}
document.querySelectorAll('th').forEach(head => {
  head.tabIndex = 0;
  head.onclick = () => sort(head);
  head.onkeydown = event => { if (event.key === 'Enter') sort(head); };
});
"""


def page(comparison: Comparison, notes: Sequence[str] = ()) -> str:
    """The whole comparison on one page, the conclusions on top; a click on a heading sorts its table.

    Args:
        notes: What to say of how the runs were read.
    """
    board = comparison.main
    title = f"{counted(len(board.contenders), 'configuration')} on {counted(len(board.tasks), 'task')}"
    pictures = figures(comparison)
    tables = parts(comparison)
    body = [
        f"<h1>{escape(title)}</h1>",
        _said(comparison),
        _table(tables[0]),
        *(_picture(name, figure) for name, figure in pictures.items()),
        *(_table(part) for part in tables[1:]),
        _notes(notes),
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
    )
    return (
        f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}'
        f"<script>{_SCRIPT}</script></body></html>\n"
    )


def _said(comparison: Comparison) -> str:
    sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in conclusions(comparison))
    note = (
        f"A difference is called one at {comparison.confidence:.0%} confidence, after Holm's correction for all "
        "comparisons of its kind."
    )
    return f'<ul class="said">{sentences}</ul><p class="note">{note}</p>'


def _picture(name: str, figure: Figure) -> str:
    caption = _CAPTIONS[name]
    source = base64.b64encode(_svg(figure)).decode()
    pixels = round(figure.get_figwidth() * _PIXELS_PER_INCH)
    image = f'<img width="{pixels}" alt="{escape(caption)}" src="data:image/svg+xml;base64,{source}">'
    return f'<figure id="{name}"><div class="wide">{image}</div><figcaption>{escape(caption)}</figcaption></figure>'


def _svg(figure: Figure) -> bytes:
    """Sharp on every screen, and the same bytes every time: no date, no random ids."""
    written = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "tunery"}):
        figure.savefig(written, format="svg", metadata={"Date": None})
    return written.getvalue()


def _table(part: TableSection) -> str:
    head = "".join(f"<th{_side(heading)}>{escape(heading.strip())}</th>" for heading in part.headings)
    rows = "".join(_rows(part))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<h2>{escape(part.title)}</h2><div class="wide">{table}</div>{_notes(part.notes)}'


def _notes(notes: Sequence[str]) -> str:
    return "".join(f'<p class="note">{escape(note)}</p>' for note in notes)


def _rows(part: TableSection) -> Iterator[str]:
    for place, row in enumerate(part.rows):
        cells = (
            f"<td{_side(heading) or _prose(text)}>{escape(text)}</td>"
            for text, heading in zip(row, part.headings, strict=True)
        )
        yield f"<tr{' class=group' if place in part.groups else ''}>{''.join(cells)}</tr>"


def _side(heading: str) -> str:
    return ' class="number"' if heading.startswith(" ") else ""


def _prose(text: str) -> str:
    """Long texts may be broken; names of configurations stay on one line."""
    return ' class="text"' if len(text) > 40 else ""
