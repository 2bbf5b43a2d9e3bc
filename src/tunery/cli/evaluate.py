"""`tunery evaluate`."""

from __future__ import annotations

from typing import Any

import click

from tunery.cli.options import KEYS, OverridableCommand, overrides_of, store_options

_BATCHES, _NEW_TOKENS = (1, 8), 64


def _sizes(context: click.Context, option: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Batch sizes, in the order they were given."""
    if value is None:
        return None
    words = [word.strip() for word in value.split(",")]
    if not all(word.isascii() and word.isdigit() and int(word) > 0 for word in words):
        raise click.UsageError(f"--batch is {value!r}, but must be numbers of prompts above 0. Try --batch 1,8.")
    return tuple(dict.fromkeys(map(int, words)))


@click.command(cls=OverridableCommand, epilog=KEYS)
@click.argument("refs", metavar="REF...", nargs=-1, required=True)
@click.option(
    "--project", metavar="FOLDER", help="Take the evaluation settings from this project, not the model's own."
)
@click.option("--speed", is_flag=True, help="Measure how fast each REF and its base write, instead of scoring them.")
@click.option("--batch", callback=_sizes, metavar="N,N", help="Prompts answered at once; with --speed. [default: 1,8]")
@click.option("--new-tokens", type=click.IntRange(min=1), help="Length of every answer; with --speed. [default: 64]")
@store_options
@click.pass_context
def evaluate(
    context: click.Context,
    /,
    refs: tuple[str, ...],
    project: str | None,
    speed: bool,
    batch: tuple[int, ...] | None,
    new_tokens: int | None,
    **options: Any,
) -> None:
    """Score a model beside its base, or measure how fast both write.

    REF is models:/name@alias, models:/name/3, runs:/id, an adapter folder, a model folder, a hub id, or builtin:tiny.

    A run and its versions are scored on the tasks of their training. For any other model, name the tasks: --project
    projects/quickstart, or --evaluation.tasks '[world_facts]'.
    """
    from tunery.cli.terminal import Terminal
    from tunery.runs.evaluate import evaluate as run
    from tunery.runs.speed.command import measure_speed

    if not speed:
        _refuse_for_scores(refs, batch, new_tokens)
    with Terminal() as terminal:
        if speed:
            sizes, length = batch or _BATCHES, new_tokens or _NEW_TOKENS
            measure_speed(refs, project, overrides_of(context), sizes, length, terminal, **options)
        else:
            run(refs[0], project, overrides_of(context), terminal, **options)


def _refuse_for_scores(refs: tuple[str, ...], batch: tuple[int, ...] | None, new_tokens: int | None) -> None:
    if batch is not None or new_tokens is not None:
        raise click.UsageError("--batch and --new-tokens say how speed is measured. Add --speed, or leave them out.")
    if len(refs) > 1:
        raise click.UsageError(f"one REF is scored at a time, but there are {len(refs)}. Several go with --speed.")
