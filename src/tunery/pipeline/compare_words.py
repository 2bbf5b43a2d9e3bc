"""Words of a selection that hold commas: several names, or one name that holds a comma."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunery.tracking.entries_select import Selection
    from tunery.tracking.store import Store


def separated(store: Store, selection: Selection) -> Selection:
    """The same selection; a word is taken at its commas where nothing is called by the whole of it.

    `mlflow run -P project=a,b` gives an option once, and MLflow takes commas in the names of experiments.

    Args:
        store: Says what things are called.
        selection: As a person typed it; projects are names already, where they are not several folders.

    Raises:
        TrackingError: If the store does not answer.
    """
    from tunery.pipeline.compare_frame import project_name
    from tunery.tracking.entries_select import experiments, is_project, is_study

    return replace(
        selection,
        projects=_separated(selection.projects, lambda word: is_project(store, word), project_name),
        experiments=_separated(selection.experiments, lambda word: word in experiments(store)),
        studies=_separated(selection.studies, lambda word: is_study(store, word)),
    )


def _separated(
    told: Sequence[str], is_name: Callable[[str], bool], name_of: Callable[[str], str] = str
) -> tuple[str, ...]:
    found: list[str] = []
    for text in told:
        parts = [part.strip() for part in text.split(",") if part.strip()]
        found += [text] if "," not in text or is_name(text) else map(name_of, parts)
    return tuple(found)
