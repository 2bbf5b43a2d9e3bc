"""Runs and experiments of a store. This is the only module that searches page by page.

Every search raises TrackingError if the store does not answer.
Other packages take the type `Run` from here for their annotations, so that they need no import of mlflow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from tunery.errors import Fault, InputError
from tunery.tracking.redact import redact
from tunery.tracking.store import Store, refusals

if TYPE_CHECKING:
    from mlflow import entities
    from mlflow.store.entities import PagedList

    Run: TypeAlias = entities.Run

Found = TypeVar("Found")

FINISHED = "attributes.status = 'FINISHED'"
_PAGE = 1000  # runs a request; MLflow's servers refuse more than 50,000
_IDS_A_FILTER = 200


def search_runs(
    store: Store,
    *clauses: str,
    within: Iterable[str] | None = None,
    user_filter: str = "",
    oldest_first: bool = False,
    limit: int | None = None,
) -> Iterator[Run]:
    """Every run for which all clauses hold, newest first.

    Args:
        clauses: Parts of MLflow's filter, joined by `and`: its filters know no `or`.
        within: Ids of the experiments to search; None: all.
        user_filter: A further clause, as a person wrote it.

    Raises:
        InputError: If MLflow cannot parse the user's filter.
    """
    from mlflow.exceptions import MlflowException

    places = list(experiments(store).values() if within is None else within)
    wanted = " and ".join([*clauses, user_filter] if user_filter else clauses)
    order = [f"attributes.start_time {'ASC' if oldest_first else 'DESC'}"]
    ask = partial(store.client.search_runs, places, wanted, max_results=min(_PAGE, limit or _PAGE), order_by=order)
    with refusals(store.uri):
        try:
            yield from islice(_paged(ask), limit)
        except MlflowException as error:
            if not user_filter or error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            reason = " ".join(redact(str(error)).split())
            advice = "Such as: metrics.score > 0.8 and params.`cfg.adapter.rank` = '16'."
            fault = Fault(f"{user_filter!r} is no filter of MLflow ({reason})", advice=advice)
            raise InputError("--filter", fault) from error


def runs_by_id(store: Store, run_ids: Sequence[str]) -> dict[str, Run]:
    """Runs by their ids; one that does not exist is missing from the result."""
    if not run_ids:
        return {}
    places = list(experiments(store).values())
    chunks = (run_ids[first : first + _IDS_A_FILTER] for first in range(0, len(run_ids), _IDS_A_FILTER))
    filters = (f"attributes.run_id IN ({', '.join(map(quoted, chunk))})" for chunk in chunks)
    found = chain.from_iterable(search_runs(store, one, within=places) for one in filters)
    return {run.info.run_id: run for run in found}


def recent_runs(store: Store, *clauses: str, limit: int = 5) -> list[Run]:
    """The latest runs of the store's own experiment; none if it does not exist yet."""
    with refusals(store.uri):
        experiment = store.client.get_experiment_by_name(store.experiment)
    places = [] if experiment is None else [str(experiment.experiment_id)]
    return list(search_runs(store, *clauses, within=places, limit=limit)) if places else []


def experiments(store: Store) -> dict[str, str]:
    """Ids of all experiments, by name."""
    with refusals(store.uri):
        found: Iterator[entities.Experiment] = _paged(partial(store.client.search_experiments, max_results=_PAGE))
        return {experiment.name: str(experiment.experiment_id) for experiment in found}


def _paged(ask: Callable[..., PagedList[Found]]) -> Iterator[Found]:
    page = ask(page_token=None)
    yield from page
    while page.token:
        page = ask(page_token=page.token)
        yield from page


def is_tagged(tag: str, value: str) -> str:
    """The clause for runs that have this value in this tag.

    Raises:
        InputError: If the filter cannot hold one of the two.
    """
    if "`" in tag:
        raise InputError("--tag", Fault("the name", "one without a backquote, which MLflow's filters cannot hold", tag))
    return equals(f"tags.`{tag}`", value)


def equals(key: str, value: str) -> str:
    """The clause `key = 'value'` of any of MLflow's filters.

    Raises:
        InputError: If the filter cannot hold the value.
    """
    try:
        return f"{key} = {quoted(value)}"
    except ValueError as error:
        raise InputError(key, Fault("the value", "one without both kinds of quotes", value)) from error


def quoted(value: str) -> str:
    """A text as MLflow's filters take it. Their strings have no escape for their own quote.

    Raises:
        ValueError: If it has both kinds of quotes.
    """
    if "'" in value and '"' in value:
        raise ValueError(f"both kinds of quotes in {value!r}")
    quote = '"' if "'" in value else "'"
    return f"{quote}{value}{quote}"
