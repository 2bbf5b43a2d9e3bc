"""Options that several verbs share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from tunery.cli.overrides import overrides_of

if TYPE_CHECKING:
    from tunery.config.project import Project

KEYS = """Any key of project.yaml is an option too: --adapter.rank 32, --data.train.0.source rows.csv.
All keys with their defaults: docs/config.md; for editors: projects/project.schema.json."""


class Finite(click.FloatRange):
    """A number in a range; click itself lets nan pass, and inf where the range has no end."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number, or click's own fault."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number in the range {self._describe_range()}.", param, ctx)
        return number


class Name(click.types.StringParamType):
    """A text that is not empty: `--study "$NAME"` with NAME unset must not go on with another study."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text, or a fault."""
        if not str(value).strip():
            self.fail("it is empty, but must be a name. Leave the option out for the default.", param, ctx)
        return str(value)


project_option = click.option(
    "--project", default="projects/quickstart", show_default=True, metavar="FOLDER", help="Folder with project.yaml."
)

tracking_option = click.option(
    "--tracking-uri", metavar="URI", help="MLflow store; default: MLFLOW_TRACKING_URI, else ./mlflow.db."
)

device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Where the model runs.",
)


def store_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where the run goes, and what it is called there."""
    return tracking_option(click.option("--run-name", metavar="NAME", help="Name of the run in MLflow.")(command))


def load(project: str, context: click.Context) -> Project:
    """The project with the command line's overrides.

    Raises:
        ConfigError: With every fault.
    """
    from tunery.config.load import load_project

    return load_project(project, overrides_of(context))
