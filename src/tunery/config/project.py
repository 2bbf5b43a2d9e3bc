"""A whole project.yaml, and the rules that hold between its sections."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import Field, PrivateAttr, model_validator

from tunery.config.data import DataConfig, SourceConfig
from tunery.config.evaluation import EvaluationConfig
from tunery.config.fields import field_at, nearest, number_type
from tunery.config.model import AdapterConfig, BaseConfig
from tunery.config.promotion import PromotionConfig
from tunery.config.search import SearchConfig
from tunery.config.section import Section
from tunery.config.training import TrainingConfig
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
    adapter: AdapterConfig = Field(AdapterConfig(), description="What is trained.")
    data: DataConfig = Field(description="What it is trained on.")
    training: TrainingConfig = Field(TrainingConfig(), description="How it is trained.")
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="How it is scored.")
    search: SearchConfig = Field(SearchConfig(), description="How its settings are searched.")
    promotion: PromotionConfig | None = Field(
        None, description="What a champion must show; without this section nothing is promoted."
    )
    _folder: Path = PrivateAttr(default_factory=Path.cwd)

    @property
    def folder(self) -> Path:
        """Folder of project.yaml: relative paths in it are looked for here first."""
        return self._folder

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        faults = [*_adapter_faults(self), *_training_faults(self), *_evaluation_faults(self), *_search_faults(self)]
        if faults:
            raise CrossFieldFaults(faults)
        return self


def _adapter_faults(project: Project) -> Iterator[Fault]:
    base, adapter = project.base, project.adapter
    if adapter.method == "full" and base.quantization != "none":
        yield Fault(
            "base.quantization",
            "'none' when adapter.method is full: quantised weights cannot be trained",
            base.quantization,
            "Or set adapter.method: lora.",
        )
    if adapter.target_parameters and base.quantization != "none":
        yield Fault(
            "adapter.target_parameters",
            "empty when base.quantization is nf4 or int8: adapters on quantised experts match nothing",
            adapter.target_parameters,
            "Set base.quantization: none, or adapt linear modules only.",
        )
    if adapter.target_parameters and adapter.dora:
        yield Fault("adapter.dora", "false with adapter.target_parameters", True, "DoRA is defined for linear modules.")
    if not adapter.target_modules and not adapter.target_parameters:
        yield Fault("adapter.target_modules", "all-linear or at least one name", [], "Try all-linear.")


def _training_faults(project: Project) -> Iterator[Fault]:
    training, base, data = project.training, project.base, project.data
    if training.keep_best_by == "score" and not project.evaluation.tasks:
        yield Fault(
            "training.keep_best_by",
            "validation/nll or last when evaluation.tasks is empty",
            "score",
            "Name a task in evaluation.tasks.",
        )
    if training.score_checkpoints and not project.evaluation.tasks:
        yield Fault(
            "training.score_checkpoints",
            "false when evaluation.tasks is empty",
            True,
            "Name a task in evaluation.tasks.",
        )
    if training.keep_best_by == "validation/nll" and not _has_validation(data):
        yield Fault(
            "training.keep_best_by",
            "last or score when there are no validation rows",
            "validation/nll",
            "Set data.validation.fraction above 0.",
        )
    if training.early_stopping_patience is not None and training.keep_best_by == "last":
        yield Fault(
            "training.early_stopping_patience",
            "unset when training.keep_best_by is last",
            training.early_stopping_patience,
            "Early stopping watches what keep_best_by names.",
        )
    if training.precision == "fp16" and training.device == "cpu":
        yield Fault(
            "training.precision",
            "fp32, bf16 or auto on a CPU: fp16 arithmetic needs a GPU's loss scaling",
            "fp16",
            "Use auto.",
        )
    if data.template == "plain" and training.loss_on == "assistant":
        yield Fault(
            "training.loss_on",
            "completion or all when data.template is plain",
            "assistant",
            "A plain row has one answer.",
        )
    if base.quantization == "int8" and training.device in ("cpu", "mps"):
        yield Fault(
            "base.quantization",
            "nf4 or none unless training.device is cuda or auto: LLM.int8() needs a CUDA GPU",
            "int8",
            "Use nf4.",
        )


def _has_validation(data: DataConfig) -> bool:
    return data.validation.source is not None or data.validation.fraction > 0


def _evaluation_faults(project: Project) -> Iterator[Fault]:
    tasks = project.evaluation.tasks
    for name in project.evaluation.primary:
        if name not in tasks:
            known = ", ".join(sorted(tasks)) or "none"
            yield Fault(
                f"evaluation.primary names {name!r}, which is not in evaluation.tasks",
                known,
                advice=nearest(name, tasks) or "Change evaluation.primary too; {} counts every task.",
            )
    for name in project.promotion.guard if project.promotion else ():
        if name not in tasks:
            known = ", ".join(sorted(tasks)) or "none"
            yield Fault(
                f"promotion.guard names {name!r}, which is not in evaluation.tasks", known, advice=nearest(name, tasks)
            )


def _search_faults(project: Project) -> Iterator[Fault]:
    """Keys that are none; what else a search needs is checked when one starts, so that it cannot stop a training."""
    for key, searched in project.search.space.items():
        field = field_at(Project, key)
        if field is None:
            yield Fault(f"search.space names the unknown key {key!r}", advice=nearest(key, known_keys()))
        if isinstance(searched, str):
            continue
        if field is not None and searched.low is not None and number_type(field) is None:
            yield Fault(
                f"search.space.{key}",
                "choices: this key is not a number",
                {"low": searched.low, "high": searched.high},
            )
        for condition in searched.when or {}:
            if field_at(Project, condition) is None:
                yield Fault(
                    f"search.space.{key}.when names the unknown key {condition!r}",
                    advice=nearest(condition, known_keys()),
                )


def known_keys() -> list[str]:
    """Every dotted key of project.yaml, sections included."""
    from tunery.config.fields import dotted_keys

    return list(dotted_keys(Project))


def sources(project: Project) -> list[SourceConfig]:
    """Every source that the project reads, training rows first."""
    own = project.data.validation.source
    return [*project.data.train, *([own] if own else [])]


def resolved(project: Project) -> dict[str, Any]:
    """The project with every default written out, as plain YAML types."""
    return project.model_dump(mode="json")
