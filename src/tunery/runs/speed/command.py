"""`tunery evaluate --speed`: how fast models write, each beside its base, as runs of kind `speed`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from tunery.config.fingerprint import fingerprint
from tunery.config.load import load_project
from tunery.config.project import Project, resolved
from tunery.errors import Fault, InputError
from tunery.runs.cache import free_memory
from tunery.runs.observer import Observer
from tunery.runs.publish import tell_where
from tunery.runs.resolve_model import EvaluatedModel, Overrides, load_evaluated_model, settings_of
from tunery.runs.scoring import deciding
from tunery.runs.speed.measure import PROMPT_TOKENS, REPEATS, BatchSpeed, SpeedRequest, measure
from tunery.runs.speed.report import ModelSpeed, SpeedRecord, speed_metrics, speed_report, speed_table

if TYPE_CHECKING:
    from tunery.tracking.run import Tracker
    from tunery.tracking.store import Store

KIND = "speed"
_LONGEST_UNKNOWN = 2**31  # tokens that a model takes which names no limit


def measure_speed(
    refs: Sequence[str],
    project: str | None,
    overrides: Overrides,
    batches: Sequence[int],
    new_tokens: int,
    observer: Observer,
    *,
    tracking_uri: str | None = None,
    run_name: str | None = None,
) -> list[SpeedRecord]:
    """Time every model that the references lead to, and the base of each that has one; nothing is scored.

    Args:
        refs: As for `evaluate`; all are looked at before the first is loaded.
        project, overrides: As for `evaluate`.
        batches: Prompts that are answered at once.
        new_tokens: That every answer has.

    Raises:
        InputError: If a reference leads nowhere, or a model takes fewer tokens than it is to write.
        OutOfMemory: If a batch does not fit. That model's run fails, and none of its numbers joins a board; it keeps
            those of a tuned model whose base did not fit, and the runs of earlier references are whole.
    """
    from tunery.tracking.store import connect

    store = connect(tracking_uri, "evaluation" if project is None else load_project(project, overrides).name)
    distinct = list(dict.fromkeys(refs))
    requests = _requests(distinct, project, overrides, store, tuple(batches), new_tokens)
    bases: dict[str, ModelSpeed] = {}
    found = []
    for ref in distinct:
        observer.step(f"loading {ref}")
        model = load_evaluated_model(ref, project, overrides, store, None)
        found.append(_measured(ref, model, requests[ref], bases, store, observer, run_name))
        del model
        free_memory()
    observer.step("next: tunery compare, which shows the speeds beside the scores of the same models")
    return found


def _requests(
    refs: Sequence[str],
    project: str | None,
    overrides: Overrides,
    store: Store,
    batches: tuple[int, ...],
    new_tokens: int,
) -> dict[str, SpeedRequest]:
    """What each model is asked: prompts are shorter where the model takes no more."""
    from tunery.estimation.offload import refuse_offload

    settings = {ref: settings_of(ref, project, overrides, store) for ref in refs}
    for one in settings.values():
        refuse_offload(one, "the time that layers take to the card would be measured, not the model's")
    limits = {ref: _longest(one) for ref, one in settings.items()}
    faults = [
        Fault(f"--new-tokens for {ref}", f"below {limit}, the tokens that the model takes", new_tokens)
        for ref, limit in limits.items()
        if new_tokens >= limit
    ]
    if faults:
        raise InputError("evaluate --speed", faults, "Lower --new-tokens.")
    return {
        ref: SpeedRequest(batches, new_tokens, min(PROMPT_TOKENS, limit - new_tokens)) for ref, limit in limits.items()
    }


def _longest(settings: Project) -> int:
    from tunery.estimation.architecture import architecture_of

    return architecture_of(settings.base, settings.folder).positions or _LONGEST_UNKNOWN


def _measured(
    ref: str,
    found: EvaluatedModel,
    request: SpeedRequest,
    bases: dict[str, ModelSpeed],
    store: Store,
    observer: Observer,
    run_name: str | None,
) -> SpeedRecord:
    from tunery.tracking.provenance import collect
    from tunery.tracking.run import open_run

    name, project = run_name or f"speed of {ref}", found.project.name
    provenance = collect(found.project.folder, found.project.tracking.diff)
    tags = provenance.hardware_tags(found.base.device)
    record = SpeedRecord(ref, tags["tunery.device"], request, {})
    with open_run(replace(store, experiment=project), KIND, project, run_name=name, tags=tags) as tracker:
        observer.step(f"run {tracker.run_id}: answering on {record.device}")
        tracker.log_provenance(provenance)
        _log_model(ref, found, request, tracker)
        for side, speed in _sides(found, request, bases):
            record = replace(record, speeds={**record.speeds, side: speed})
            _log(record, tracker)
        observer.show(speed_table(record))
    tell_where(tracker, observer)
    return record


def _sides(
    found: EvaluatedModel, request: SpeedRequest, bases: dict[str, ModelSpeed]
) -> Iterator[tuple[str, ModelSpeed]]:
    """The model, then its base; a base that several models share is measured once a command."""
    base, tokenizer = found.base, found.tokenizer or found.base.tokenizer
    key = json.dumps([deciding(base.identity), asdict(request)], sort_keys=True)
    inner = found.model.get_base_model() if hasattr(found.model, "get_base_model") else found.model
    beside = 0 if inner is base.model else _bytes_of(base.model)
    own = ModelSpeed(found.load_seconds, tuple(measure(found.model, tokenizer, request, beside)))
    if not found.adapted:
        bases[key] = own
        yield "model", own
        return
    yield "tuned", own
    if key not in bases:
        bases[key] = ModelSpeed(base.load_seconds, tuple(_of_base(found, inner, request)))
    yield "base", bases[key]


def _of_base(found: EvaluatedModel, inner: Any, request: SpeedRequest) -> Iterator[BatchSpeed]:
    """The base without an adapter's wrappers, which cost time at each layer even when they are switched off."""
    from tunery.models.adapter import detach_adapter

    base = found.base
    if inner is base.model:
        return measure(detach_adapter(found.model), base.tokenizer, request)
    return measure(base.model, base.tokenizer, request, _bytes_of(inner))


def _bytes_of(model: Any) -> int:
    return sum(parameter.nbytes for parameter in model.parameters())


def _log_model(ref: str, found: EvaluatedModel, request: SpeedRequest, tracker: Tracker) -> None:
    from tunery.tracking.run import EVALUATED_MODEL

    project = found.project
    tracker.log_config(resolved(project), fingerprint(project))
    tracker.tag(**{"tunery.ref": ref, "tunery.base_revision": found.base.identity.revision})
    tracker.tag(**({} if found.adapted else {"tunery.method": "none"}))
    if found.model_id is not None:
        tracker.tag(**{EVALUATED_MODEL: found.model_id})
    batches = ", ".join(map(str, request.batches))
    asked = {"prompt_tokens": request.prompt_tokens, "new_tokens": request.new_tokens}
    tracker.log_params(
        {f"speed.{key}": value for key, value in {"batches": batches, **asked, "repeats": REPEATS}.items()}
    )


def _log(record: SpeedRecord, tracker: Tracker) -> None:
    tracker.log_metrics(speed_metrics(record))
    tracker.log_dict({name: asdict(speed) for name, speed in record.speeds.items()}, "speed.json")
    tracker.set_description(speed_report(record))
