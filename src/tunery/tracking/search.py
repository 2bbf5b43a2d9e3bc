"""Runs and experiments of a store. This is the only module that searches page by page.

Other packages take the type `Run` from here for their annotations, so that they need no import of mlflow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias

from tunery.errors import Fault, InputError
from tunery.tracking.redact import redact
from tunery.tracking.store import Store, refusals

if TYPE_CHECKING:
    from mlflow import entities

    Run: TypeAlias = entities.Run

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
        store: The store to search.
        clauses: Parts of MLflow's filter, joined by `and`: its filters know no `or`.
        within: Ids of the experiments to search; None: all.
        user_filter: A further clause, as a person wrote it.
        oldest_first: The other order.
        limit: The most runs to yield.

    Raises:
        InputError: If MLflow cannot parse the user's filter.
        TrackingError: If the store does not answer.
    """
    from mlflow.exceptions import MlflowException

    places = list(experiments(store).values() if within is None else within)
    wanted = " and ".join([*clauses, user_filter] if user_filter else clauses)
    order = [f"attributes.start_time {'ASC' if oldest_first else 'DESC'}"]
    left, token = limit, None
    while left is None or left > 0:
        size = _PAGE if left is None else min(_PAGE, left)
        with refusals(store.uri):
            try:
                page = store.client.search_runs(places, wanted, max_results=size, order_by=order, page_token=token)
            except MlflowException as error:
                if user_filter and error.error_code == "INVALID_PARAMETER_VALUE":
                    raise _bad_filter(user_filter, error) from error
                raise
        yield from page
        left, token = None if left is None else left - len(page), page.token
        if not token:
            return


def runs_by_id(store: Store, run_ids: Sequence[str]) -> dict[str, Run]:
    """Runs by their ids; one that does not exist is missing from the result.

    Raises:
        TrackingError: If the store does not answer.
    """
    if not run_ids:
        return {}
    places = list(experiments(store).values())
    chunks = (run_ids[first : first + _IDS_A_FILTER] for first in range(0, len(run_ids), _IDS_A_FILTER))
    filters = (f"attributes.run_id IN ({', '.join(repr(str(run_id)) for run_id in chunk)})" for chunk in chunks)
    found = chain.from_iterable(search_runs(store, one, within=places) for one in filters)
    return {run.info.run_id: run for run in found}


def recent_runs(store: Store, *clauses: str, limit: int = 5) -> list[Run]:
    """The latest runs of the store's own experiment; none if it does not exist yet.

    Raises:
        TrackingError: If the store does not answer.
    """
    with refusals(store.uri):
        experiment = store.client.get_experiment_by_name(store.experiment)
    places = [] if experiment is None else [str(experiment.experiment_id)]
    return list(search_runs(store, *clauses, within=places, limit=limit)) if places else []


def experiments(store: Store) -> dict[str, str]:
    """Ids of all experiments, by name.

    Raises:
        TrackingError: If the store does not answer.
    """
    known: dict[str, str] = {}
    token = None
    while True:
        with refusals(store.uri):
            page = store.client.search_experiments(max_results=_PAGE, page_token=token)
        known |= {experiment.name: str(experiment.experiment_id) for experiment in page}
        token = page.token
        if not token:
            return known


def is_tagged(tag: str, value: str) -> str:
    """The clause for runs that have this value in this tag.

    Raises:
        InputError: If the filter cannot hold one of the two.
    """
    if "`" in tag:
        raise InputError("--tag", Fault("the name", "one without a backquote, which MLflow's filters cannot hold", tag))
    return equals(f"tags.`{tag}`", value)


def equals(key: str, value: str) -> str:
    """A clause of MLflow's filter, whose strings have no escape for their quote.

    Raises:
        InputError: If the value holds both kinds of quotes.
    """
    if "'" in value and '"' in value:
        raise InputError(key, Fault("the value", "one without both kinds of quotes", value))
    quote = '"' if "'" in value else "'"
    return f"{key} = {quote}{value}{quote}"


def _bad_filter(text: str, error: Exception) -> InputError:
    reason = " ".join(redact(str(error)).split())
    advice = "Such as: metrics.score > 0.8 and params.`cfg.adapter.rank` = '16'."
    return InputError("--filter", Fault(f"{text!r} is no filter of MLflow ({reason})", advice=advice))
