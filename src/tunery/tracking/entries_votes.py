"""The choices that people made on the chat page, in the rows of the models that they chose about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tunery.entries import Votes
from tunery.tracking.entries_records import Reading
from tunery.tracking.entries_select import experiments, search
from tunery.tracking.store import Store


def with_votes(store: Store, readings: Sequence[Reading]) -> list[Reading]:
    """The same readings with the choices that people made."""
    votes = _votes(store)
    if not votes:
        return list(readings)
    return [replace(one, entry=replace(one.entry, votes=_votes_of(one, votes))) for one in readings]


def _votes_of(reading: Reading, votes: Mapping[str, Votes]) -> Votes | None:
    """The run's own; where it has none, those of all models of its row."""
    if reading.entry.run_id in votes:
        return votes[reading.entry.run_id]
    found = [votes[model] for model in dict.fromkeys(reading.models) if model in votes]
    if not found:
        return None
    return Votes(sum(one.wins for one in found), sum(one.ties for one in found), sum(one.losses for one in found))


def _votes(store: Store) -> dict[str, Votes]:
    """Choices between a model and its base, by logged model and by run; all sessions together."""
    counts: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for run in search(store, list(experiments(store).values()), ["tags.`tunery.kind` = 'votes'"]):
        for about in (run.data.tags.get("tunery.voted_model"), run.data.tags.get("tunery.voted_run")):
            for place, name in enumerate(("wins", "ties", "losses") if about else ()):
                counts[str(about)][place] += run.data.metrics.get(f"votes/{name}", 0.0)
    return {about: Votes(*(int(number) for number in numbers)) for about, numbers in counts.items() if any(numbers)}
