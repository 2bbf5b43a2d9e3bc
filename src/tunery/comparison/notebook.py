"""`tunery.compare(...)`: a comparison as a pandas DataFrame, for notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tunery.comparison.compare import Options, compare_runs, frame_of

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType

    from tunery.comparison.selection import Selection
    from tunery.records import StepMetrics


class Silent:
    """A watch that says nothing."""

    def step(self, text: str) -> None:
        """A stage begins."""

    def show(self, renderable: RenderableType) -> None:
        """A table or a text is ready."""

    def training(self, metrics: StepMetrics, total_steps: int) -> None:
        """An optimizer step is done."""

    def end_training(self) -> None:
        """Training has ended."""


def compare_frame(
    refs: Sequence[str],
    *,
    project: str | Sequence[str],
    experiment: str | Sequence[str],
    study: str | Sequence[str],
    tags: Mapping[str, str],
    filter: str,
    imported: bool,
    confidence: float,
    seed: int,
    tested: int,
    record: bool,
    tracking_uri: str | None,
) -> pd.DataFrame:
    """See `tunery.compare`."""
    selection = selected(
        refs,
        projects=_several(project),
        experiments=_several(experiment),
        studies=_several(study),
        tags=tuple(tags.items()),
        filter=filter,
        imported=imported,
    )
    options = Options(confidence, seed, tested, curves=record, record=record)
    return frame_of(compare_runs(selection, options, Silent(), tracking_uri=tracking_uri))


def selected(
    refs: Sequence[str],
    *,
    projects: Sequence[str] = (),
    experiments: Sequence[str] = (),
    studies: Sequence[str] = (),
    tags: Sequence[tuple[str, str]] = (),
    filter: str = "",
    kinds: Sequence[str] = (),
    imported: bool = False,
) -> Selection:
    """A selection from what a person types.

    Args:
        refs: Runs and versions, by any of their names.
        projects: Names of projects, or their folders.

    Raises:
        RefError: If a reference is none.
    """
    from tunery.comparison.selection import Selection

    names = tuple(project_name(project) for project in projects)
    narrowed = Selection(names, tuple(experiments), tuple(studies), tuple(tags), filter, tuple(kinds), imported)
    return narrowed.with_refs(refs)


def project_name(project: str) -> str:
    """The name of the project in a folder or a project.yaml; what is neither is a name."""
    path = Path(project).expanduser()
    if not (path / "project.yaml").is_file() and not (path.is_file() and path.suffix in (".yaml", ".yml")):
        return project
    from tunery.config.load import load_project

    return load_project(project, ()).name


def _several(value: str | Sequence[str]) -> tuple[str, ...]:
    return ((value,) if value else ()) if isinstance(value, str) else tuple(value)
