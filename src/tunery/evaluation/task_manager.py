"""lm-eval's task managers: one for our own folders, and one that knows every task, each made once a process."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tunery.data.reading import strict_json
from tunery.errors import Fault, TaskError
from tunery.evaluation.task_files import OwnTask, TaskYaml

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

# Where items lie (ours are hashed themselves), and the few-shot number, which TaskSettings holds.
_APART = ("dataset_kwargs", "custom_dataset", "num_fewshot")
_PLACE = "config_source"  # the YAML's absolute path, which would be another version on every machine
# lm-eval writes a partial function of a task (mmlu_pro has them) with its address, which every process has another of.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
# What decides how an item is asked and marked, and what lm-eval writes beside its results.
_ASKING = (
    "doc_to_text", "doc_to_target", "doc_to_choice", "description", "target_delimiter", "gen_prefix", "output_type",
    "generation_kwargs", "filter_list", "metric_list", "process_docs", "process_results", "repeats",
)  # fmt: skip


def task_version(task: Any, own: OwnTask | None, *, guarded: bool = False) -> str:
    """lm-eval's version of a task, with a hash of its settings; for our own, of its items and its code too.

    The settings are those in force: a group's YAML may have changed the prompt of the tasks that it names.

    Args:
        guarded: Whether an item would have been its own few-shot example, and was shown another: `few_shot.draw`.
    """
    settings = {key: value for key, value in task.dump_config().items() if key not in _APART}
    for key, value in settings.items():
        if isinstance(value, Mapping) and _PLACE in value:
            settings[key] = {name: inner for name, inner in value.items() if name != _PLACE}
    digest = hashlib.sha256(_text(settings).encode())
    if guarded:
        digest.update(b"no item is its own example")
    if own is not None:
        for path in _sources(own.path):
            digest.update(path.read_bytes())
        for split in sorted(task.dataset):
            for row in task.dataset[split]:
                digest.update(json.dumps([split, row], sort_keys=True, default=str).encode())
    return f"{task.VERSION}+{digest.hexdigest()[:12]}"


def group_version(group: Any | None, members: Sequence[tuple[str, str]], own: OwnTask | None) -> str:
    """A group's or tag's own version, with a hash of all that decides its score beside its tasks' scores.

    Args:
        group: lm-eval's group; None for a tag.
        members: Name and version of each leaf task, in order.
        own: The declaration in our own folders, if it is there.
    """
    aggregations = [] if group is None else [_aggregation(one) for one in (group, *group.get_all_groups())]
    digest = hashlib.sha256(json.dumps([members, aggregations]).encode())
    # A group's YAML may also change the tasks it names (their prompt or few-shot number).
    for path in _sources(own.path) if group is not None and own is not None else []:
        digest.update(path.read_bytes())
    return f"{'tag' if group is None else group.version}+{digest.hexdigest()[:12]}"


def prompt_digest(settings: Mapping[str, Any]) -> str:
    """First 12 hex digits of the SHA-256 of the settings that decide how a task asks and marks.

    The same for a loaded task and for the settings in a result file of lm-eval, whichever version wrote it: settings
    that are not set decide nothing.

    Args:
        settings: A task's `dump_config()`, or its entry among the `configs` of a result file.
    """
    asking = {key: settings[key] for key in _ASKING if settings.get(key) not in (None, "", [], {})}
    return hashlib.sha256(_text(asking).encode()).hexdigest()[:12]


def members_prompt(digests: Iterable[str]) -> str:
    """One digest for how a group's tasks ask and mark, from `prompt_digest` of each."""
    return hashlib.sha256(json.dumps(sorted(set(digests))).encode()).hexdigest()[:12]


def members_version(versions: Iterable[str]) -> str:
    """The versions of a group's tasks, each once, without our hashes: a group keeps its own when they change."""
    return ", ".join(sorted({version.partition("+")[0] for version in versions}))


def _text(settings: Mapping[str, Any]) -> str:
    """Settings as JSON, the same in every process."""
    return _ADDRESS.sub("", json.dumps(settings, sort_keys=True, default=_named))


def _named(value: object) -> str:
    """A function deep in a task's settings: its address would change from process to process."""
    return str(getattr(value, "__qualname__", type(value).__qualname__ if callable(value) else value))


def _aggregation(group: Any) -> list[Any]:
    """How a group's score comes from its children's; a function by its name, since its address changes."""
    return [
        (group.child_names, entry.metric, entry.filter_list, _named(entry.aggregation), entry.weight_by_size)
        for entry in group.aggregate_metric_list or []
    ]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep lm-eval's notes and datasets' progress bars off the terminal; errors still show."""
    import datasets

    logger = logging.getLogger("lm_eval")
    level, bars = logger.level, datasets.are_progress_bars_disabled()
    logger.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        if not bars:
            datasets.enable_progress_bars()


def _manager(folders: tuple[Path, ...], include_defaults: bool) -> TaskManager:
    from lm_eval.tasks import TaskManager

    with quiet():
        manager = TaskManager(include_path=[str(folder) for folder in folders], include_defaults=include_defaults)
        for entry in manager.task_index.values():
            if entry.yaml_path is not None and any(map(entry.yaml_path.is_relative_to, folders)):
                _find_items_beside_the_yaml(entry)
    return manager


# Of these folders only: milliseconds, where lm-eval's own tasks take 5 to 12 s to index.
own_manager = functools.lru_cache(maxsize=8)(functools.partial(_manager, include_defaults=False))
# Of lm-eval's tasks and of these folders; ours win where names agree.
full_manager = functools.lru_cache(maxsize=8)(functools.partial(_manager, include_defaults=True))


def _find_items_beside_the_yaml(entry: Any) -> None:
    """Let data_files name files beside the YAML; lm-eval would look in the working folder."""
    from lm_eval.tasks._yaml_loader import load_yaml

    settings = (entry.cfg or {}).get("dataset_kwargs")
    if settings is not None and not isinstance(settings, Mapping):
        rule = "a mapping, such as {data_files: items.jsonl}"
        raise TaskError(str(entry.yaml_path), Fault("dataset_kwargs", rule, settings))
    files = (settings or {}).get("data_files")
    if files is None:
        return
    config = load_yaml(entry.yaml_path, resolve_func=True)
    paths = _absolute(files, entry.yaml_path.parent, str(entry.yaml_path))
    if config.get("dataset_path") == "json":
        # Read in memory: load_dataset would copy the items into a cache under the home folder, with locks and bars.
        config["custom_dataset"] = functools.partial(_read_items, paths=paths, where=str(entry.yaml_path))
        config["dataset_kwargs"] = {}
    else:
        config["dataset_kwargs"] = {**config["dataset_kwargs"], "data_files": paths}
    entry.cfg, entry.yaml_path = config, None


def _absolute(files: Any, folder: Path, where: str) -> dict[str, list[str]]:
    by_split = files if isinstance(files, Mapping) else {"train": files}
    lists = {str(split): [names] if isinstance(names, str) else names for split, names in by_split.items()}
    for names in lists.values():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            rule = "a file's name, a list of names, or either for each split"
            raise TaskError(where, Fault("dataset_kwargs.data_files", rule, files))
    return {split: [str(folder / name) for name in names] for split, names in lists.items()}


def _read_items(*, paths: Mapping[str, Sequence[str]], where: str, **_metadata: object) -> dict[str, Any]:
    from datasets import Dataset
    from pyarrow import ArrowInvalid, ArrowTypeError

    splits = {}
    for split, names in paths.items():
        rows = [row for name in names for row in _rows(Path(name), where)]
        # Else the columns are those of the first row: what only later ones have would be left out of their prompts.
        columns = dict.fromkeys(key for row in rows for key in row)
        try:
            splits[split] = Dataset.from_list([{**columns, **row} for row in rows])
        except (ArrowInvalid, ArrowTypeError) as error:
            advice = "Under one key, write texts alone, numbers alone, or lists alone."
            raise TaskError(where, Fault(f"its items do not make a table ({error})", advice=advice)) from error
    return splits


def _rows(path: Path, where: str) -> list[dict[str, Any]]:
    place = str(path)
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            return [_item(row) for row in strict_json.loads(text)]
        rows = []
        # Not splitlines(): it also splits at U+2028 and others, which may occur inside a JSON string.
        for number, line in enumerate(text.split("\n"), start=1):
            place = f"{path}:{number}"
            rows += [_item(strict_json.loads(line))] if line.strip() else []
        return rows
    except OSError as error:
        fault = Fault("dataset_kwargs.data_files", "a file that can be read", str(path), "Paths start beside the YAML.")
        raise TaskError(where, fault) from error
    except (ValueError, TypeError) as error:
        raise TaskError(
            place, Fault("JSON that cannot be read", str(error), advice="Each item is an object.")
        ) from error


def _item(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{type(value).__name__} instead of an object")
    return value


def _sources(path: Path) -> list[Path]:
    """Files that decide how a task asks: its YAML, what that includes, and the Python code beside it."""
    text = path.read_bytes()
    config = yaml.load(text, Loader=TaskYaml)
    includes = config.get("include", [])
    included = [path.parent / name for name in ([includes] if isinstance(includes, str) else includes)]
    code = sorted(path.parent.glob("*.py")) if b"!function" in text else []
    return [path, *included, *code]
