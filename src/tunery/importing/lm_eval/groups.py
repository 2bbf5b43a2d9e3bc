"""lm-eval's groups in a result file: which task stands below which, whichever version wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_INDENT = re.compile(r"( +)- ")  # before an alias in the table that lm-eval prints: " - stem", "  - algebra"


def children(tree: Mapping[str, Any]) -> Mapping[str, Sequence[str]]:
    """What each group holds directly.

    Before 0.4.2, lm-eval wrote no `group_subtasks`: there only the order of the results and the indentation of their
    aliases tell which task belongs to which group.
    """
    told: Mapping[str, Sequence[str]] | None = tree.get("group_subtasks")
    if told is not None:
        return told
    found: dict[str, list[str]] = {}
    above: list[str] = []  # from the outermost group to the row before
    for name, row in tree["results"].items():
        indent = _INDENT.match(str(row.get("alias", "")))
        above = above[: len(indent.group(1)) if indent else 0]
        if above:
            found.setdefault(above[-1], []).append(name)
        above.append(name)
    return found


def below(name: str, groups: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Every group and task below a group, at any depth."""
    for child in groups.get(name) or ():
        yield child
        yield from below(child, groups)


def leaves(name: str, groups: Mapping[str, Sequence[str]]) -> list[str]:
    """The tasks of a group at any depth, each once; a task itself."""
    found = [one for one in below(name, groups) if not groups.get(one)]
    return list(dict.fromkeys(found)) or [name]
