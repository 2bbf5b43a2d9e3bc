"""Options that several verbs share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

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
    """A text that is not empty: `--study "$NAME"` with NAME unset must not resume another study."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text, or a fault."""
        if not str(value).strip():
            self.fail("it is empty, but must be a name. Leave the option out for the default.", param, ctx)
        return str(value)


project_option = click.option(
    "--project", default="projects/quickstart", metavar="FOLDER", help="Folder with project.yaml."
)

tracking_option = click.option(
    "--tracking-uri", metavar="URI", help="MLflow store; default: MLFLOW_TRACKING_URI, else ./mlflow.db."
)

device_option = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", help="Where the model runs."
)


def store_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--tracking-uri and --run-name."""
    return tracking_option(click.option("--run-name", metavar="NAME", help="Name of the run in MLflow.")(command))


def load(project: str, context: click.Context) -> Project:
    """The project with the command line's overrides."""
    from tunery.config.load import load_project

    return load_project(project, overrides_of(context))


_META = "tunery.overrides"


class OverridableCommand(click.Command):
    """A command that takes config keys as options; they are taken out before click reads its own.

    Click's `ignore_unknown_options` would take the value of an unknown option for an argument.
    """

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        """Keep the overrides on the context; hand the rest to click."""
        declared = {name for parameter in self.get_params(context) for name in parameter.opts}
        overrides, rest = split_overrides(arguments, declared)
        context.meta[_META] = overrides
        return super().parse_args(context, rest)

    def collect_usage_pieces(self, context: click.Context) -> list[str]:
        """Show in the usage line that config keys are options too."""
        return [*super().collect_usage_pieces(context), "[--SECTION.KEY VALUE]..."]


def overrides_of(context: click.Context) -> list[tuple[str, str]]:
    """Pairs of key and value from the command line, in its order."""
    overrides: list[tuple[str, str]] = context.meta.get(_META, [])
    return overrides


def split_overrides(arguments: Iterable[str], declared: set[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Separate the undeclared `--key value` and `--key=value` from all other words.

    Raises:
        click.UsageError: If an undeclared option has no value.
    """
    overrides: list[tuple[str, str]] = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if word == "--":
            rest += [word, *words]
        elif not word.startswith("--") or name in declared:
            rest.append(word)
        else:
            overrides.append((name[2:], value if equals else _next_value(name, words)))
    return overrides, rest


def _next_value(name: str, words: Iterable[str]) -> str:
    value = next(iter(words), None)
    if value is None or value.startswith("--"):
        raise click.UsageError(f"{name} needs a value: {name} VALUE, or {name}=VALUE")
    return value
