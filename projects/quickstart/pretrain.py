"""Remake everything the quickstart rests on: the chat datasets, the evaluation items, the tokenizer and `builtin:tiny`.

python projects/quickstart/pretrain.py              # everything, about a quarter of an hour on two cores
python projects/quickstart/pretrain.py --data-only  # datasets and items, a second
"""

import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from world.entities import World, build_world
from world.examples import Row, comparison_items, comparison_rows, fact_items, fact_rows

QUICKSTART = Path(__file__).resolve().parent
PACKAGE = QUICKSTART.parents[1] / "src" / "tunery"
HELD_OUT_DOCUMENTS = 500


@click.command()
@click.option("--seed", default=0, show_default=True, help="Seed of the world, its text, and the first weights.")
@click.option("--documents", default=None, type=click.IntRange(min=5000), help="Length of the pretraining text.")
@click.option(
    "--out",
    default=PACKAGE / "models" / "tiny",
    type=click.Path(path_type=Path),
    help="Folder for the model.",
)
@click.option("--data", default=QUICKSTART / "data", type=click.Path(path_type=Path), help="Folder for the datasets.")
@click.option(
    "--tasks",
    default=PACKAGE / "evaluation" / "tasks",
    type=click.Path(path_type=Path),
    help="Folder for the evaluation items.",
)
@click.option("--data-only", is_flag=True, help="Write datasets and items, leave the model alone.")
def main(seed: int, documents: int | None, out: Path, data: Path, tasks: Path, data_only: bool) -> None:
    """Make the quickstart's data and pretrain its base model."""
    world = build_world(seed)
    write_rows(data / "facts.jsonl", fact_rows(world, seed))
    write_rows(data / "comparison.jsonl", comparison_rows(world, seed))
    write_rows(tasks / "world_facts.jsonl", fact_items(world, seed))
    write_rows(tasks / "world_comparison.jsonl", comparison_items(world, seed))
    if not data_only:
        make_model(world, seed, documents, out)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write one JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(as_json_lines(rows), encoding="utf-8")
    click.echo(f"{path}: {len(rows)} rows")


def as_json_lines(rows: Sequence[Row]) -> str:
    """The rows as the text of a .jsonl file."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def make_model(world: World, seed: int, documents: int | None, out: Path) -> None:
    """Write the text, learn the tokenizer, pretrain the model, and save all of it with its card."""
    # Imported here because torch and transformers take many seconds, and --data-only needs neither.
    # Waiting threads sleep instead of spinning: on cores that other programs use too, spinning costs most of the time.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import torch

    from world.card import Text, digest, render_card
    from world.corpus import documents as write_documents
    from world.pretraining import Recipe, new_model, pack, pretrain
    from world.tokenizer import END_OF_TEXT, train_tokenizer

    recipe = Recipe(seed=seed) if documents is None else Recipe(seed=seed, documents=documents)
    text = list(write_documents(world, recipe.documents, f"pretraining {seed}"))
    held_out = list(write_documents(world, HELD_OUT_DOCUMENTS, f"held out {seed}"))
    tokenizer = train_tokenizer(text[: recipe.documents // 5])
    model = new_model(recipe, tokenizer)
    outcome = pretrain(
        model, pack(text, tokenizer, recipe.block_tokens), pack(held_out, tokenizer, recipe.block_tokens), recipe
    )

    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids([tokenizer.eos_token, END_OF_TEXT])
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    summary = Text(len(text), len(held_out), digest(text))
    command = shlex.join(["python", "projects/quickstart/pretrain.py", *sys.argv[1:]])
    (out / "README.md").write_text(render_card(recipe, summary, outcome, len(tokenizer), command), encoding="utf-8")
    click.echo(f"{out}: held-out loss {outcome.held_out_loss:.4f} after {outcome.seconds / 60:.1f} minutes")


if __name__ == "__main__":
    main()
