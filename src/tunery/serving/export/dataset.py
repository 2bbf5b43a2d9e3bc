"""`tunery export --to dataset`: the rows of a project as training learns them, for other tools and the Hub.

Source of the card's front matter: https://huggingface.co/docs/hub/datasets-cards
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tunery.config.load import load_project
from tunery.config.project import Project
from tunery.errors import InputError
from tunery.records.rows import Conversation, Message, PreparedData
from tunery.reporting.templates import markdown
from tunery.runs.cache import Resident

if TYPE_CHECKING:
    from tunery.runs.observer import Observer


def read_project(folder: str, observer: Observer) -> tuple[Project, PreparedData]:
    """A project and its rows: cleaned, without what is dropped, and split as they are for training.

    Raises:
        InputError: If `folder` is no project's, or its rows, its tasks or its base's tokenizer cannot be read.
    """
    if folder.startswith(("models:/", "runs:/")):
        raise InputError(folder, "is a model, but --to dataset needs the folder of a project, whose rows are written.")
    project, resident = load_project(folder), Resident()
    observer.step("reading tasks and data")
    return project, resident.rows(project, resident.tasks(project))


def write_dataset(project: Project, rows: PreparedData, license: str, title: str, place: Path) -> dict[str, str]:
    """Write train.jsonl, validation.jsonl and README.md into a folder that is there.

    A row is {"messages": [...]}, with "tools" where it has any; tunery reads it back as the conversation that it was.

    Args:
        license: Of the rows, for the card.
        title: Of the card.

    Returns:
        sha256 of each file of rows, by its name.
    """
    splits = {"train": rows.train_conversations, "validation": rows.validation_conversations}
    digests = {}
    for split, conversations in splits.items():
        if conversations:
            text = "".join(json.dumps(_row(one), ensure_ascii=False) + "\n" for one in conversations)
            (place / f"{split}.jsonl").write_text(text, encoding="utf-8")
            digests[f"{split}.jsonl"] = hashlib.sha256(text.encode()).hexdigest()
    (place / "README.md").write_text(_card(project, rows, license, title, digests), encoding="utf-8")
    return digests


def _row(conversation: Conversation) -> dict[str, Any]:
    row: dict[str, Any] = {"messages": [_turn(message) for message in conversation.messages]}
    return row | ({"tools": json.loads(conversation.tools)} if conversation.tools else {})


def _turn(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning:
        turn["reasoning_content"] = message.reasoning
    if message.tool_calls:
        turn["tool_calls"] = [{"type": "function", "function": json.loads(call)} for call in message.tool_calls]
    if not message.learned:
        turn["weight"] = 0  # OpenAI's key for an answer that is shown and not learned
    return turn


def _card(project: Project, rows: PreparedData, license: str, title: str, digests: Mapping[str, str]) -> str:
    files = [{"split": name.removesuffix(".jsonl"), "path": name} for name in digests]
    front = {"license": license, "configs": [{"config_name": "default", "data_files": files}]}
    reasons = Counter(drop.reason.split(" of ")[0] for drop in rows.report.drops)
    counts = {"train.jsonl": len(rows.train_conversations), "validation.jsonl": len(rows.validation_conversations)}
    return markdown(
        "tunery.serving.export",
        "dataset.md.j2",
        front_matter=yaml.safe_dump(front, sort_keys=False, allow_unicode=True).rstrip(),
        title=title,
        project=project.name,
        files=[(name, counts[name], digest) for name, digest in digests.items()],
        report=rows.report,
        names=_names(rows),
        cleaning=_cleaning(project),
        reasons=reasons.most_common(),
        length=rows.report.max_length,
        seed=project.training.seed,
    )


def _names(rows: PreparedData) -> list[str]:
    """Sources as the card names them: where a local file lay is nobody's business."""
    sources = [source.source for source in rows.report.sources]
    return [name.rpartition("/")[2] if name.startswith(("/", "~", ".")) else name for name in sources]


def _cleaning(project: Project) -> Sequence[tuple[str, object]]:
    """The steps of data.clean that are set, as project.yaml writes them."""
    clean = project.data.clean
    return sorted(clean.model_dump(mode="json", exclude_defaults=True).items())
