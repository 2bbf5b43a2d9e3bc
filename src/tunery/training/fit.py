"""One run's optimisation: supervised fine-tuning of an adapter or of every weight, from tokens to a kept checkpoint."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from tunery.config.training import TrainingConfig
from tunery.data.teacher_rows import TeacherRows
from tunery.errors import ConfigError, Fault, Interrupted, OutOfMemory, first_line
from tunery.models.adapter_files import write_folder, write_model
from tunery.models.libraries import quiet_libraries
from tunery.records.rows import PreparedData
from tunery.records.runs import Report, StepMetrics, Trained
from tunery.training.arguments import sft_arguments
from tunery.training.checkpoints import FOLDER, TrainingProgress, checkpoint_folder
from tunery.training.context import Forwards, TrainingContext
from tunery.training.memory import is_out_of_memory, peak_memory_bytes, reset_peak_memory
from tunery.training.rows import require_exact_packing, training_rows
from tunery.training.stop import StopSignal
from tunery.training.targets import require_validation


def fit(
    model: Any,
    tokenizer: Any,
    data: PreparedData,
    config: TrainingConfig,
    *,
    max_length: int,
    out: Path,
    report: Report,
    score: Callable[[], float] | None = None,
    teacher: TeacherRows | None = None,
    resume_from: Path | None = None,
) -> Trained:
    """Train what is trainable in a model and keep the best checkpoint.

    On return the model holds the kept checkpoint's weights, in eval mode, with its own forward methods: what it scores
    now is what `Trained.folder` scores when it is loaded.

    Args:
        model: From `attach_adapter`.
        tokenizer: Of the base; its padding token fills batches.
        max_length: data.max_length, in tokens: the length that packing fills.
        out: Folder of the run; checkpoints go to out/checkpoints, the kept one to out/model. Without `resume_from`,
            earlier checkpoints in it are deleted.
        report: Called with the metrics of each step; may raise to stop the run.
        score: Scores the model as it is on dev items, at every checkpoint; higher is better.
        teacher: The rows after the context, if the method is context distillation.
        resume_from: A checkpoint from `latest_checkpoint`. Losses and weights continue bit-identically (CPU, fp32), and
            `Trained.history` holds the earlier part too, which is not reported again.

    Raises:
        DataError: If no row has a token to learn.
        ConfigError: If packing would mix rows, or there is nothing to choose the checkpoint by.
        NonFiniteLoss: If loss or gradient is NaN or infinite, before the weights take it in; or a checkpoint's metric.
        OutOfMemory: If memory runs out.
        Interrupted: After a stop signal, when a checkpoint was written (before the first step: without one).
        StorageError: If a checkpoint cannot be written.
    """
    quiet_libraries()
    _require_choice(config, data, score)
    progress = _progress(config, out, resume_from)
    forwards = Forwards(model)
    dtypes = {name: parameter.dtype for name, parameter in model.named_parameters()}
    try:
        with _stop_signal() as stop:
            context = TrainingContext(
                model, tokenizer, data, config, max_length, out, report, score, progress, stop, teacher
            )
            reset_peak_memory(context.device)
            if not progress.finished:
                _train(context, forwards, resume_from)
        return _kept(context, dtypes)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise OutOfMemory("training", first_line(error)) from error
        raise
    finally:
        forwards.restore()
        model.eval()


def _stop_signal() -> AbstractContextManager[StopSignal]:
    """Of this run alone; the trials of a pack share one."""
    from tunery.training.pack.seat import current_seat

    seat = current_seat()
    return StopSignal() if seat is None else nullcontext(seat.table.stop)


def earlier_steps(checkpoint: Path) -> Sequence[StepMetrics]:
    """What was reported up to a checkpoint: after a kill -9, some of it may not have reached MLflow."""
    return TrainingProgress.read(checkpoint).history


def _progress(config: TrainingConfig, out: Path, resume_from: Path | None) -> TrainingProgress:
    """How far the run has come; a run that begins afresh deletes the checkpoints of an earlier one."""
    if resume_from is not None:
        return TrainingProgress.read(resume_from)
    if (out / FOLDER).is_dir():
        shutil.rmtree(out / FOLDER)
    return TrainingProgress(config.keep_best_by)


def _train(context: TrainingContext, forwards: Forwards, resume_from: Path | None) -> None:
    config, examples = context.config, context.data.train
    rows = training_rows(examples, packing=config.packing, max_length=context.max_length, seed=config.seed)
    if config.packing:
        require_exact_packing(context.model, examples, context.device)
    arguments = sft_arguments(config, context.device, context.out / FOLDER)
    trainer = _trainer(context, forwards, args=arguments, train_dataset=rows)
    try:
        with context.router.watched():
            trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    finally:  # undo what the trainer did to the model, so that a resident base can be trained on again
        handle = getattr(trainer, "neftune_hook_handle", None)
        if handle is not None:
            handle.remove()
        if config.gradient_checkpointing:
            trainer.model.gradient_checkpointing_disable()
            trainer.model.disable_input_require_grads()
        trainer.model.zero_grad(set_to_none=True)
    if context.stop.requested:  # at the last step too: the evaluation that follows is not wanted either
        raise Interrupted(context.stop.requested, context.progress.step, resumable=True)


def _trainer(context: TrainingContext, forwards: Forwards, **settings: Any) -> Any:
    if context.teacher is not None:
        from tunery.training.distilling_trainer import DistillingTrainer

        return DistillingTrainer(context, forwards, context.teacher, **settings)
    from tunery.training.trainer import CheckedTrainer

    return CheckedTrainer(context, forwards, **settings)


def _kept(context: TrainingContext, dtypes: Mapping[str, Any]) -> Trained:
    """Put the kept checkpoint's weights into the model, and write them to out/model."""
    from tunery.training.trainer import load_weights

    progress, model = context.progress, context.model
    assert progress.best_step is not None, "training ended without a checkpoint"
    load_weights(model, checkpoint_folder(context.out, progress.best_step))
    for name, parameter in model.named_parameters():
        # Full training is done in fp32; the result has the base's types, in memory as on disk.
        parameter.data = parameter.data.to(dtypes[name])
    folder = context.out / "model"

    def write_kept(place: Path) -> None:
        write_model(model, place)
        if not hasattr(model, "peft_config"):
            context.tokenizer.save_pretrained(str(place))  # full weights are a base of their own

    write_folder(folder, write_kept)
    return Trained(
        folder=folder,
        kept_step=progress.best_step,
        kept_by=context.config.keep_best_by,
        last_step=progress.step,
        train_seconds=progress.seconds,
        peak_memory_bytes=peak_memory_bytes(context.device),
        validation_nll=progress.validation_nll.get(progress.best_step),
        history=tuple(progress.history),
    )


def _require_choice(config: TrainingConfig, data: PreparedData, score: Callable[[], float] | None) -> None:
    require_validation(config, data)
    key, chosen = "training.keep_best_by", config.keep_best_by
    if chosen == "score" and score is None:
        rule = "validation/nll or last when nothing scores the checkpoints"
        raise ConfigError("evaluation", Fault(key, rule, chosen, "Name a task in evaluation.tasks."))
