"""A study that compares methods: in-context learning may win it, and then there is nothing to register."""

from __future__ import annotations

import mlflow
import pytest

from tests.integration.conftest import Place


@pytest.mark.slow
def test_a_winner_that_only_shows_examples_registers_nothing_and_says_so(place: Place) -> None:
    place.project(
        training={"max_steps": 2, "checkpoints": 1, "icl": {"examples": 2}},
        search={
            "sampler": "grid",
            "trials": "all",
            "repeats": 1,
            "pruner": "none",
            "finalists": 1,
            "objectives": {"train_seconds": "minimize"},  # which showing examples takes none of
            "space": {"training.method": {"choices": ["sft", "icl"]}},
        },
    )
    outcome = place.tunery("tune", "--project", ".")
    assert outcome.code == 0, outcome.err
    told = "The winner trains nothing (training.method: icl), so no version was registered."
    assert told in " ".join(outcome.out.split())
    assert "models:/" not in outcome.out
    client = mlflow.MlflowClient(tracking_uri=place.uri)
    assert list(client.search_registered_models()) == []
    (study,) = client.search_runs(
        [client.get_experiment_by_name("small").experiment_id], "tags.`tunery.kind` = 'study'"
    )
    assert study.info.status == "FINISHED"
    assert told in study.data.tags["mlflow.note.content"]
    assert study.data.tags["tunery.winner"] == "1"
