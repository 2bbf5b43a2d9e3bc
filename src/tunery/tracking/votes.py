"""People's choices between a model's answers and its base's: one run of kind `votes` a chat session."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from threading import Lock
from typing import Literal

from tunery.errors import Fault, TrackingError
from tunery.tracking.redact import redact
from tunery.tracking.registry import ModelRef
from tunery.tracking.run import KIND, PROJECT, is_invented
from tunery.tracking.store import Store, decisions_of, refusals

TABLE = "votes.json"
_TABLES = "mlflow.loggedArtifacts"  # the tag by which MLflow's pages know a table
VOTED_RUN, VOTED_VERSION, VOTED_MODEL = "tunery.voted_run", "tunery.voted_version", "tunery.voted_model"

Choice = Literal["base", "tie", "tuned"]
# What a choice is called from the tuned model's side.
_METRICS: Mapping[Choice, str] = {"tuned": "votes/wins", "tie": "votes/ties", "base": "votes/losses"}


@dataclass(frozen=True)
class Vote:
    """One choice."""

    prompt: str  # the last question before the choice; base and tuned are the answers to it
    base: str
    tuned: str
    choice: Choice
    turns: int  # questions that were asked in the conversation
    conversation: str  # all of it, both sides, as JSON
    # Where the tuned model's answers stood; the sides were not named before the choice.
    tuned_on_the: Literal["left", "right"]
    settings: Mapping[str, float] = field(default_factory=dict)  # temperature, top_p, max_tokens, seed


class VoteLog:
    """Keeps votes in MLflow, each at once. Without a vote there is no run.

    The run is FINISHED from its first vote on and grows with the next: however the page ends, none stays RUNNING.
    """

    def __init__(self, store: Store, ref: ModelRef, project: str) -> None:
        self.store, self.ref, self.project = store, ref, project
        self.run_id: str | None = None
        self.experiment_id = ""  # of that run
        self._adopted = False  # whether the run is MLflow's, of `mlflow run`
        self._counts: Counter[str] = Counter()
        self._rows: list[dict[str, object]] = []
        self._lock = Lock()  # several people may vote at once, and the table is written whole each time

    def add(self, vote: Vote) -> dict[str, int]:
        """Log a vote, and count all votes of the session so far: votes/wins, votes/ties, votes/losses.

        Raises:
            TrackingError: If the store does not take it; it is then not counted either.
        """
        with self._lock, refusals(self.store.uri):
            try:
                self._counts = self._write(vote)
            except OSError as error:  # of an artifact store: a folder without rights, a server that is away
                fault = Fault("the artifact store", redact(str(error)), advice="Check that it can be written.")
                raise TrackingError(redact(self.store.uri), fault) from error
            finally:
                self._drop_empty()
            return {name: self._counts[name] for name in _METRICS.values()}

    def _write(self, vote: Vote) -> Counter[str]:
        from mlflow.entities import Metric

        run_id = self.run_id or self._begin()
        counts, now = self._counts + Counter([_METRICS[vote.choice]]), int(time.time() * 1000)
        metrics = [Metric(name, float(counts[name]), now, counts.total()) for name in _METRICS.values()]
        known = {key: value for key, value in asdict(vote).items() if key != "settings"}
        row = {**known, **vote.settings, "time": time.strftime("%Y-%m-%d %H:%M:%S%z")}
        rows = [*self._rows, {key: redact(value) for key, value in row.items()}]
        # Not log_table: it reads the table back to extend it, and pandas then takes '007' for 7 and '3.10' for 3.1.
        self.store.client.log_dict(run_id, _table(rows), TABLE)
        self.store.client.log_batch(run_id, metrics=metrics)
        self._rows = rows
        return counts

    def _drop_empty(self) -> None:
        """A first vote that was not kept leaves no run of its own behind."""
        from mlflow.exceptions import MlflowException

        if self.run_id is None or self._counts or self._adopted:
            return
        with suppress(MlflowException, OSError):  # the store that has just refused may refuse this too
            self.store.client.delete_run(self.run_id)
        self.run_id = None

    def _begin(self) -> str:
        """The run; under `mlflow run` the one that MLflow made, which MLflow will end."""
        from mlflow.tracking.context import registry

        client, ref = self.store.client, self.ref
        tables = json.dumps([{"path": TABLE, "type": "table"}])
        tags = {KIND: "votes", PROJECT: self.project, VOTED_MODEL: ref.model_id, _TABLES: tables}
        if ref.run_id is not None:
            tags[VOTED_RUN] = ref.run_id
        if ref.version is not None:
            tags[VOTED_VERSION] = f"{ref.name}/{ref.version}"
        name, adopted = f"votes on {ref.ref}", os.environ.pop("MLFLOW_RUN_ID", None)
        if adopted is not None:
            for key, value in tags.items():
                client.set_tag(adopted, key, value)
            self.run_id, self._adopted = adopted, True
            made = client.get_run(adopted).info
            self.experiment_id = str(made.experiment_id)
            if is_invented(made.run_name):
                client.update_run(adopted, name=name)
            return adopted
        self.experiment_id = self.store.experiment_id(decisions_of(self.project))
        run = client.create_run(self.experiment_id, tags=redact(registry.resolve_tags(tags)), run_name=name)
        self.run_id = str(run.info.run_id)
        client.set_terminated(self.run_id, "FINISHED")
        return self.run_id


def _table(rows: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Rows as MLflow keeps a table: pandas' orientation "split"."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return {"columns": columns, "data": [[row.get(key) for key in columns] for row in rows]}
