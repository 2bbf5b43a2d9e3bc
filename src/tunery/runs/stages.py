"""The stages of a run, in order: `tunery train`, a trial of a study and `tunery evaluate` share them."""

from __future__ import annotations

import hashlib
import math
import shlex
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tunery.config.fingerprint import fingerprint
from tunery.config.project import Project, resolved
from tunery.config.training import TrainingConfig
from tunery.data.rendering.written_out import written_out
from tunery.records.rows import Conversation, Example, Message
from tunery.records.runs import Generation, Report, RunRecord, StepMetrics, Trained
from tunery.runs.cache import Loaded
from tunery.runs.context import prompt_of
from tunery.runs.distillation import log_context, sentence_on
from tunery.runs.in_context import report_of
from tunery.runs.observer import Observer
from tunery.runs.scoring import CheckpointScores, Results
from tunery.runs.workdir import WorkFolder

if TYPE_CHECKING:
    from tunery.evaluation.items import Split
    from tunery.tracking.registry import ModelRef
    from tunery.tracking.run import Tracker


@contextmanager
def opened(run: AbstractContextManager[Tracker], resume: str | None) -> Iterator[tuple[Tracker, WorkFolder]]:
    """A run with its work folder, which no other process can use meanwhile; a run that ends well leaves no folder.

    Args:
        run: From `open_run`.
        resume: Id of the run that is resumed. Its folder is held before MLflow hears of it: another process may be
            training it.
    """
    with WorkFolder.of(resume).held() if resume else nullcontext(), run as tracker:
        work = WorkFolder.of(tracker.run_id)
        with work.held():
            yield tracker, work
    work.remove()


def log_settings(project: Project, tracker: Tracker) -> None:
    """The settings, and where the project's relative paths start."""
    tracker.log_config(resolved(project), fingerprint(project))
    tracker.tag(**{"tunery.project_folder": str(project.folder.absolute())})


def log_inputs(loaded: Loaded, tracker: Tracker) -> None:
    """Digests of all that is read beside the settings, and the data report.

    Raises:
        ConfigError: If a resumed run had other inputs; its ending stays as it was.
    """
    tracker.log_inputs(input_digests(loaded))
    tracker.accept_resume()
    report = report_of(loaded)
    tracker.log_dataset(report)
    if (start := loaded.start) is not None:
        tracker.log_start(start.named, start.run_id, start.model_id, report)


def input_digests(loaded: Loaded) -> dict[str, str]:
    """One short text each for base, chat template, the adapter to train on, the rows of both splits, and every task.

    Rows are identified by their tokens, not by their files: that covers the tokenizer, the cleaning and the split, and
    a hub dataset's own fingerprint differs between machines.
    """
    base, tasks, data, context = loaded.base, loaded.tasks, loaded.rows, loaded.context
    digests = {
        "base": base.identity.revision,
        "chat_template": _digest([str(base.tokenizer.chat_template).encode()]),
        "data.train": _digest(_encoded(data.train) if context is None else [context.text.encode()]),
        "data.validation": _digest(_encoded(data.validation)),
    }
    if loaded.start is not None:
        digests["adapter.start"] = loaded.start.digest
    for name in tasks.names:
        # Version and items: most of lm-eval's tasks keep their version when their dataset changes.
        items = [item for leaf in tasks.members.get(name, (name,)) for item in tasks.leaves[leaf].item_ids]
        asked = filter(None, (tasks.settings[name].version, tasks.settings[name].wording))
        digests[f"task.{name}"] = _digest(text.encode() for text in (*asked, *items))
    return digests


def _encoded(examples: Sequence[Example]) -> Iterable[bytes]:
    for example in examples:
        yield array("q", example.input_ids).tobytes()
        yield bytes(example.trained)


def _digest(parts: Iterable[bytes]) -> str:
    """First 16 hex digits of the SHA-256 of the parts, each preceded by its length."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()[:16]


def train_adapter(
    loaded: Loaded,
    tracker: Tracker,
    observer: Observer,
    work: WorkFolder,
    checkpoint: Path | None,
    also: Report | None = None,
) -> tuple[Trained, Results | None]:
    """Optimise what is attached, with curves to MLflow and to the observer.

    Args:
        loaded: With an adapter.
        checkpoint: To resume from, if any.
        also: Called with each step's metrics too; may raise to end the training.

    Returns:
        What was trained, and its results on dev items if the kept checkpoint was scored on all tasks.
    """
    from tunery.training.fit import earlier_steps, fit

    data, training = loaded.rows, loaded.project.training
    log_context(loaded, tracker)
    # For the progress line; packing makes fewer.
    batches = math.ceil(len(data.train) / (training.micro_batch_size * training.gradient_accumulation_steps))
    steps = training.max_steps or math.ceil(batches * training.epochs)

    def report(metrics: StepMetrics) -> None:
        tracker.log_step(metrics)
        with suppress(OSError):  # a terminal that was closed must not cost the checkpoint that SIGHUP asks for
            observer.training(metrics, steps)
        if also is not None:
            also(metrics)

    scores = CheckpointScores(loaded) if training.scores_checkpoints else None
    with _curves(training, tracker, observer, work):
        for earlier in earlier_steps(checkpoint) if checkpoint else ():
            tracker.log_step(earlier)  # which leaves out what the run holds already
        trained = fit(
            loaded.model,
            loaded.base.tokenizer,
            data,
            training,
            max_length=data.report.max_length,
            out=work.path,
            report=report,
            score=scores,
            teacher=loaded.teacher,
            resume_from=checkpoint,
        )
    return trained, scores.of_kept(trained) if scores is not None else None


@contextmanager
def _curves(training: TrainingConfig, tracker: Tracker, observer: Observer, work: WorkFolder) -> Iterator[None]:
    """What is open while points of the curves come: the progress line, and TensorBoard's event files."""
    folder = work.path / "tensorboard"
    if training.tensorboard:
        observer.step(f"curves as they come: tensorboard --logdir {shlex.quote(str(folder))}")
    try:
        with tracker.event_files(folder) if training.tensorboard else nullcontext():
            yield
    finally:
        with suppress(OSError):
            observer.end_training()


def log_trained(loaded: Loaded, trained: Trained, tracker: Tracker) -> tuple[ModelRef, dict[str, float]]:
    """Log the adapter before anything else can fail, as it is what the GPU hours bought; then what it cost.

    Returns:
        The logged adapter, and its costs: train_seconds, peak_memory_bytes, model_bytes, trainable_parameters.
    """
    from tunery.tracking.registry import log_adapter

    project = loaded.project
    assert loaded.adapter is not None, "only an attached adapter is trained"
    logged = log_adapter(
        tracker,
        trained.folder,
        base=project.base,
        identity=loaded.base.identity,
        tokenizer=loaded.base.tokenizer,
        project_folder=project.folder,
        method=project.adapter.method,
        template=project.data.template,
        step=trained.kept_step,
    )
    costs = {"train_seconds": trained.train_seconds, "peak_memory_bytes": float(trained.peak_memory_bytes)}
    tracker.log_metrics(costs, model_id=logged.model_id)
    sizes = {
        "model_bytes": sum(file.stat().st_size for file in trained.folder.glob("*.safetensors")),
        "trainable_parameters": loaded.adapter.trainable_parameters,
    }
    tracker.log_constants(sizes)
    return logged, {**costs, **sizes}


def answers(loaded: Loaded) -> list[str]:
    """Greedy answers to the first prompts of the validation rows; after the context, if there is one."""
    from tunery.evaluation.generate import generate

    evaluation = loaded.project.evaluation
    prompts, tools = prompts_before(loaded)
    if not prompts:
        return []
    return generate(
        loaded.model,
        loaded.base.tokenizer,
        prompts,
        tools=tools,
        max_new_tokens=evaluation.generation.max_new_tokens,
        batch_size=evaluation.batch_size,
        template=loaded.project.data.template,
    )


def prompts_before(loaded: Loaded) -> tuple[list[tuple[Message, ...]], list[str]]:
    """The prompts that `answers` asks, after the context if there is one; and the tools of each, as a JSON list."""
    asked = [prompt for prompt, _ in _held_out(loaded)]
    return [_before(prompt, loaded) for prompt in asked], [prompt.tools for prompt in asked]


def side_by_side(loaded: Loaded, base: list[str], tuned: list[str]) -> list[Generation]:
    """One row a prompt, for the table in MLflow and the spreadsheet."""
    rows = []
    for (prompt, reference), before, after in zip(_held_out(loaded), base, tuned, strict=True):
        turns = written_out(prompt).messages
        shown = turns[0].content if len(turns) == 1 else "\n".join(f"{m.role}: {m.content}" for m in turns)
        rows.append(Generation(shown, reference, before, after))
    return rows


def _before(prompt: Conversation, loaded: Loaded) -> tuple[Message, ...]:
    chat = loaded.project.data.template == "chat"
    return loaded.context.before(prompt.messages, chat=chat) if loaded.context is not None else prompt.messages


def _held_out(loaded: Loaded) -> list[tuple[Conversation, str]]:
    """Prompts and references: the conversation before the assistant's last turn, and its text, calls included."""
    found = []
    for conversation in loaded.rows.validation_conversations[: loaded.project.evaluation.generation.prompts]:
        prompt = prompt_of(conversation)
        answer = written_out(replace(conversation, messages=(conversation.messages[len(prompt.messages)],), tools=""))
        found.append((prompt, answer.messages[0].content))
    return found


def run_record(
    loaded: Loaded,
    run_id: str,
    base: Results,
    tuned: Results,
    split: Split,
    trained: Trained | None = None,
    generations: Sequence[Generation] = (),
    parent: Results | None = None,
) -> RunRecord:
    """What a run's report shows.

    Args:
        base, tuned: Results of the base and of the model; empty for a model that is no other than its base.
        split: Which items the headline is computed on.
        trained: The end of its training, if this run trained it.
        generations: Answers to held-out prompts.
        parent: Results of the adapter that training began with.
    """
    from tunery.evaluation.text_metrics import text_metrics

    references = [row.reference for row in generations]
    return RunRecord(
        run_id=run_id,
        project=loaded.project.name,
        identity=loaded.base.identity,
        adapter=loaded.adapter,
        data=None,
        trained=trained,
        base=base,
        tuned=tuned,
        asked={name: loaded.tasks.primary[name] for name in loaded.tasks.names},
        primary=loaded.tasks.counting(loaded.project.evaluation),
        split=split,
        base_text=text_metrics([row.base for row in generations], references),
        tuned_text=text_metrics([row.tuned for row in generations], references),
        notes=loaded.base.notes,
        start=loaded.start.named if loaded.start else None,
        parent=parent or {},
        teacher=sentence_on(loaded.teacher, loaded.tokenizer),
    )
