"""A whole project.yaml, and the rules that hold between its sections."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import Field, PrivateAttr, model_validator

from tunery.config.data import DataConfig, RowSource
from tunery.config.evaluation import EvaluationConfig
from tunery.config.fields import dotted_keys, field_at, nearest, number_type
from tunery.config.methods import method_faults
from tunery.config.model import AdapterConfig, BaseConfig
from tunery.config.promotion import PromotionConfig
from tunery.config.search import SearchConfig
from tunery.config.section import Section, key
from tunery.config.tracking import TrackingConfig
from tunery.config.training import TrainingConfig
from tunery.config.units import BYTES_RULE, parse_bytes, unit_advice
from tunery.errors import Fault


class CrossFieldFaults(ValueError):
    """Rules between sections that do not hold; all of them, not the first."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults
        super().__init__("; ".join(map(str, faults)))


class Project(Section):
    """One experiment, declared. Also the name of its MLflow experiment and registered model."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=120, description="MLflow experiment and registered model."
    )
    base: BaseConfig = Field(description="The pretrained model.")
    adapter: AdapterConfig = key(AdapterConfig(), "What is trained.")
    data: DataConfig = Field(description="What it is trained on.")
    training: TrainingConfig = key(TrainingConfig(), "How it is trained.")
    evaluation: EvaluationConfig = key(EvaluationConfig(), "How it is scored.")
    search: SearchConfig = key(SearchConfig(), "How its settings are searched.")
    promotion: PromotionConfig | None = key(None, "What a champion must show; without it nothing is promoted.")
    tracking: TrackingConfig = key(TrackingConfig(), "What MLflow is told beside the results.")
    _folder: Path = PrivateAttr(default_factory=Path.cwd)
    _place: str = PrivateAttr(default="")
    _overridden: tuple[str, ...] = PrivateAttr(default=())

    @property
    def folder(self) -> Path:
        """Folder of project.yaml: relative paths in it are looked for here first."""
        return self._folder

    @property
    def place(self) -> str:
        """The file as the user named it, smoke.yaml say: faults are reported under it."""
        return self._place or str(self.folder / "project.yaml")

    @property
    def overridden(self) -> tuple[str, ...]:
        """Dotted keys that were laid over project.yaml, in order."""
        return self._overridden

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        faults = [
            *method_faults(self.training, self.adapter, self.search),
            *_offload_faults(self),
            *_adapter_faults(self),
            *_prompt_faults(self),
            *_training_faults(self),
            *_evaluation_faults(self),
            *_search_faults(self),
        ]
        if faults:
            raise CrossFieldFaults(faults)
        return self


def _offload_faults(project: Project) -> Iterator[Fault]:
    offload = project.base.offload
    if "base.offload" in project.search.space or any(name.startswith("base.offload.") for name in project.search.space):
        yield Fault("search.space names base.offload", "offloaded layers are for scoring, and a trial trains")
    if offload is None:
        return
    amounts = {f"base.offload.{name}": amount for name, amount in offload if amount is not None}
    if not amounts:
        rule = "at least one amount: {gpu: 10 GiB}, {cpu: 30 GiB}, or both"
        yield Fault("base.offload", rule, {}, "Or leave it out.")
    for name, amount in amounts.items():
        try:
            parse_bytes(amount)
        except ValueError:
            yield Fault(name, BYTES_RULE, amount, unit_advice(amount))
    if project.base.weights == "expanded":
        rule = "auto or packed when base.offload is set: expanded weights take what memory the card has left"
        yield Fault("base.weights", rule, "expanded")


def _adapter_faults(project: Project) -> Iterator[Fault]:
    base, adapter = project.base, project.adapter
    if adapter.method == "full" and base.quantization != "none":
        rule = "'none' when adapter.method is full: quantised weights cannot be trained"
        yield Fault("base.quantization", rule, base.quantization, "Or set adapter.method: lora.")
    if adapter.method == "full" and adapter.start is not None:
        yield Fault("adapter.start", "unset when adapter.method is full", adapter.start, "Or set adapter.method: lora.")
    if adapter.target_parameters and base.quantization != "none":
        rule = "empty when base.quantization is nf4 or int8: adapters on quantised experts match nothing"
        advice = "Set base.quantization: none, or adapt linear modules only."
        yield Fault("adapter.target_parameters", rule, adapter.target_parameters, advice)
    if adapter.target_parameters and adapter.dora:
        yield Fault("adapter.dora", "false with adapter.target_parameters", True, "DoRA is defined for linear modules.")
    if not adapter.target_modules and not adapter.target_parameters:
        yield Fault("adapter.target_modules", "all-linear or at least one name", [], "Try all-linear.")


def _prompt_faults(project: Project) -> Iterator[Fault]:
    """Sources without a prompt, or a template that none of them uses."""
    data = project.data
    sources: dict[str, RowSource] = {f"data.train.{place}": source for place, source in enumerate(data.train)}
    if data.validation.source is not None:
        sources["data.validation.source"] = data.validation.source
    sources |= {f"evaluation.answers.{place}": one for place, one in enumerate(project.evaluation.answers)}
    without = {name: source for name, source in sources.items() if source.lacks_prompt}
    if data.prompt_template is None:
        rule = "one with the column of the prompt, unless prompt_template, its own or data's, builds it"
        yield from (Fault(f"{name}.columns", rule, source.columns) for name, source in without.items())
    elif not without:
        rule = "unset where every source has a prompt of its own"
        advice = "Or leave prompt out of columns, and prompt_template out of the source."
        yield Fault("data.prompt_template", rule, data.prompt_template, advice)


def _training_faults(project: Project) -> Iterator[Fault]:
    training, base, data = project.training, project.base, project.data
    without_tasks, name_one = not project.evaluation.names, "Name a task in evaluation.tasks."
    if not training.trains and without_tasks:
        rule = "at least one task when training.method is icl: there is nothing else to measure"
        yield Fault("evaluation.tasks", rule, [], name_one)
    if training.chooses_by_score and without_tasks:
        rule = "validation/nll or last when evaluation.tasks is empty"
        yield Fault("training.keep_best_by", rule, "score", name_one)
    if training.trains and training.score_checkpoints and without_tasks:
        yield Fault("training.score_checkpoints", "false when evaluation.tasks is empty", True, name_one)
    has_validation = data.validation.source is not None or data.validation.fraction > 0
    if training.chooses_by_validation and not has_validation:
        rule = "last or score when there are no validation rows"
        yield Fault("training.keep_best_by", rule, training.keep_best_by, "Set data.validation.fraction above 0.")
    if training.checkpoints == "epoch" and training.max_steps is not None:
        rule = "a number when training.max_steps is set, which may end anywhere in an epoch"
        yield Fault("training.checkpoints", rule, "epoch", "Or set training.epochs instead of max_steps.")
    patience = training.early_stopping_patience
    if patience is not None and training.keep_best_by == "last":
        rule, advice = "unset when training.keep_best_by is last", "Early stopping watches what keep_best_by names."
        yield Fault("training.early_stopping_patience", rule, patience, advice)
    if training.precision == "fp16" and training.device == "cpu":
        rule = "fp32, bf16 or auto on a CPU: fp16 arithmetic needs a GPU's loss scaling"
        yield Fault("training.precision", rule, "fp16", "Use auto.")
    if data.template == "plain" and training.loss_on == "assistant":
        rule = "completion or all when data.template is plain"
        yield Fault("training.loss_on", rule, "assistant", "A plain row has one answer.")
    if data.separator is not None and data.template == "chat":
        rule = "unset when data.template is chat: the template separates turns"
        yield Fault("data.separator", rule, data.separator, "Or set data.template: plain.")
    if base.quantization == "int8" and training.device in ("cpu", "mps"):
        rule = "nf4 or none unless training.device is cuda or auto: LLM.int8() needs a CUDA GPU"
        yield Fault("base.quantization", rule, "int8", "Use nf4.")


def _evaluation_faults(project: Project) -> Iterator[Fault]:
    tasks = project.evaluation.names
    known = ", ".join(sorted(tasks)) or "none"
    for name in project.evaluation.primary:
        if name not in tasks:
            advice = nearest(name, tasks) or "Change evaluation.primary too; {} counts every task."
            yield Fault(f"evaluation.primary names {name!r}, which is not in evaluation.tasks", known, advice=advice)
    for name in project.promotion.guard if project.promotion else ():
        if name not in tasks:
            wrong = f"promotion.guard names {name!r}, which is not in evaluation.tasks"
            yield Fault(wrong, known, advice=nearest(name, tasks))


def _search_faults(project: Project) -> Iterator[Fault]:
    """Keys that are none; what else a search needs is checked when one starts, so that it cannot stop a training."""
    for name, searched in project.search.space.items():
        field = field_at(Project, name)
        if field is None:
            yield Fault(f"search.space names the unknown key {name!r}", advice=nearest(name, known_keys()))
        if isinstance(searched, str):
            continue
        if field is not None and searched.low is not None and number_type(field) is None:
            got = {"low": searched.low, "high": searched.high}
            yield Fault(f"search.space.{name}", "choices: this key is not a number", got)
        for condition in searched.when or {}:
            if field_at(Project, condition) is None:
                wrong = f"search.space.{name}.when names the unknown key {condition!r}"
                yield Fault(wrong, advice=nearest(condition, known_keys()))


def known_keys() -> list[str]:
    """Every dotted key of project.yaml, sections included."""
    return list(dotted_keys(Project))


def resolved(project: Project) -> dict[str, Any]:
    """The project with every default written out, as plain YAML types."""
    return project.model_dump(mode="json")
