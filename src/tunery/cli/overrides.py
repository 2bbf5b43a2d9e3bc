"""Options that no verb declares: `--section.key value`, an override of project.yaml."""

from __future__ import annotations

from collections.abc import Iterable

import click

_META = "tunery.overrides"


class OverridableCommand(click.Command):
    """A command that takes config keys as options; they are set apart before click reads its own.

    Click's `ignore_unknown_options` would not do: it cannot know that an unknown option is followed by its value, and
    would take the value for an argument.
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
    """Pairs of key and value that the command line held, in its order."""
    overrides: list[tuple[str, str]] = context.meta.get(_META, [])
    return overrides


def split_overrides(arguments: Iterable[str], declared: set[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Set the undeclared `--key value` and `--key=value` apart from all other words.

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
