"""The section `tracking`: what a run tells of where it came from."""

from __future__ import annotations

from typing import Annotated, Literal

from tunery.config.section import Section, WrittenOff, key


class TrackingConfig(Section):
    """What MLflow is told beside the results."""

    diff: Annotated[Literal["full", "names", "off"], WrittenOff] = key(
        "full",
        "Uncommitted changes in provenance/dirty.diff, without secrets: full (git diff and the names of new files), "
        "names (which files differ), or off.",
    )
