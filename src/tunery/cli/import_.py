"""`tunery import`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tunery.cli.options import tracking_option

_EPILOG = """A table's columns are known by these names, or told by --column OURS=THEIRS: name, base, base_revision,
method, trained_on, seed, train_rows, train_seconds, peak_memory_bytes, trainable_parameters, model_bytes,
energy_joules; scores as score, score_stderr and base_score, or by task: world_facts/acc, world_facts/acc_stderr,
world_facts/items, base/world_facts/acc. Other columns are kept as settings. Rows of one name and equal settings are
one configuration, told apart by seed. Accuracies are from 0 to 1, or percent with % in the cell or the heading."""


def _mapping(context: click.Context, option: click.Parameter, words: tuple[str, ...]) -> dict[str, str]:
    columns: dict[str, str] = {}
    for word in words:
        ours, equals, theirs = word.partition("=")
        if not equals or not ours or not theirs:
            raise click.UsageError(f"--column {word} must be OURS=THEIRS, such as --column score=acc.")
        columns[ours] = theirs
    return columns


@click.command("import", epilog=_EPILOG)
@click.argument("places", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE_OR_FOLDER...")
@click.option("--project", default="imports", metavar="NAME|FOLDER", help="Where the runs go.")
@click.option(
    "--column",
    "columns",
    multiple=True,
    callback=_mapping,
    metavar="OURS=THEIRS",
    help="Of a table: which column holds what.",
)
@click.option(
    "--repeats",
    is_flag=True,
    help="Of a table without a column seed: rows of equal settings are repetitions, numbered.",
)
@click.option("--task", metavar="NAME", help="Of a table with a column score: what was scored. Default: its file name.")
@click.option("--name", metavar="NAME", help="Of the run, instead of the file's own word.")
@click.option("--base", metavar="MODEL", help="What the model was trained from, if the file does not say.")
@click.option("--base-revision", metavar="REVISION", help="Its commit.")
@click.option("--method", metavar="METHOD", help="full, lora, qlora, ...; none for a model that was not trained.")
@click.option("--trained-on", metavar="DATASETS", help="What it was trained on.")
@click.option(
    "--lower", multiple=True, metavar="METRIC", help="Less of it is better. Known by name: loss, perplexity, wer, ..."
)
@tracking_option
def import_(places: tuple[Path, ...], project: str, tracking_uri: str | None, **options: Any) -> None:
    """Bring in results of others, as runs of kind import that stand on the same leaderboard.

    lm-eval's results_*.json, with the samples_*.jsonl beside it, CSV tables with one row a run, and the results of
    PEFT's method comparison. What is there already is left as it is.
    """
    from tunery.cli.terminal import Terminal
    from tunery.config.load import project_name
    from tunery.importing.importer import ImportOptions, import_results

    with Terminal() as terminal:
        where = project_name(project)
        import_results(places, ImportOptions(**options), terminal, project=where, tracking_uri=tracking_uri)
