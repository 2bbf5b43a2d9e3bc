"""What `tunery evaluate` is pointed at, and whose scores it then tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import MakePlace, Place
from tests.integration.test_base_scores import GROUP
from tunery.errors import ConfigError, RefError
from tunery.runs.cache import Resident
from tunery.runs.resolve_model import load_evaluated_model
from tunery.tracking.registry import download, resolve
from tunery.tracking.store import Store, connect

ASK = [("evaluation.tasks", "[world_facts]"), ("evaluation.limit", "8")]


@pytest.fixture(scope="module")
def trained(make_place: MakePlace) -> Place:
    """Two models: `whole`, of which every weight was trained, and `chosen`, whose checkpoint was chosen by score."""
    place = make_place("trained")
    train(place, name="whole", adapter={"method": "full"}, training={"learning_rate": 0.003})
    (place.folder / "tasks").mkdir()
    (place.folder / "tasks" / "isles.yaml").write_text(GROUP)
    train(
        place,
        name="chosen",
        training={"keep_best_by": "score"},
        evaluation={"tasks": ["isles"], "task_folders": ["tasks"], "limit": 10, "dev_fraction": 0.3},
    )
    return place


def train(place: Place, **sections: Any) -> None:
    place.project(**sections)
    outcome = place.tunery("train", "--project", ".")
    assert outcome.code == 0, outcome.err


@pytest.fixture
def store(trained: Place, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "unset")  # connect() sets it: restored afterwards
    return connect(trained.uri, "evaluation")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def newest(store: Store, experiment: str, kind: str) -> Any:
    found = store.client.get_experiment_by_name(experiment)
    assert found is not None, experiment
    return store.client.search_runs([found.experiment_id], f"tags.`tunery.kind` = '{kind}'")[0]


def adapter_folder(store: Store, folder: Path, **settings: object) -> Path:
    """The adapter of `chosen`, as a folder that says nothing of MLflow."""
    from tunery.tracking.registry import download, resolve

    found = download(resolve("models:/chosen/1", store), folder / "download", store)
    place = folder / "adapter"
    place.mkdir()
    for file in found.glob("adapter_*"):
        file.rename(place / file.name)
    file = place / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    return place


def test_a_model_of_which_every_weight_was_trained_stands_beside_its_base(trained: Place, store: Store) -> None:
    outcome = trained.tunery("evaluate", "models:/whole/1")
    assert outcome.code == 0, outcome.err
    before, after = (newest(store, "whole", kind).data.metrics for kind in ("train", "evaluation"))
    names = [f"{side}/world_facts/acc" for side in ("base", "lm_eval", "delta")]
    assert {name: after[name] for name in names} == {name: before[name] for name in names}
    assert after["score"] == before["score"]
    kept = store.client.search_runs([store.client.get_experiment_by_name("tunery-base-scores").experiment_id])
    assert {run.data.tags["tunery.base"] for run in kept} == {"builtin:tiny"}


def test_a_bare_model_has_a_score_and_no_gain_over_itself(trained: Place, store: Store) -> None:
    words = [word for key, value in ASK for word in (f"--{key}", value)]
    outcome = trained.tunery("evaluate", "builtin:tiny", *words)
    assert outcome.code == 0, outcome.err
    run = newest(store, "evaluation", "evaluation")
    assert run.data.tags["tunery.method"] == "none"
    metrics = run.data.metrics
    assert metrics["score"] == metrics["lm_eval/world_facts/acc"] == metrics["base/world_facts/acc"]
    assert not [name for name in metrics if name.startswith("delta/")]


def test_a_model_chosen_on_items_is_scored_on_the_others(trained: Place, store: Store, elsewhere: Path) -> None:
    # Not in the project's folder, where its own relative task_folders lead nowhere.
    outcome = Place(elsewhere).tunery("evaluate", "models:/chosen/1", "--tracking-uri", trained.uri)
    assert outcome.code == 0, outcome.err
    before, after = (newest(store, "chosen", kind).data.metrics for kind in ("train", "evaluation"))
    assert after["score"] == before["score"]
    assert after["score"] != after["lm_eval/isles/acc"]


def test_a_downloaded_model_is_known_by_its_run(store: Store, elsewhere: Path) -> None:
    folder = download(resolve("models:/chosen/1", store), elsewhere / "copy", store)
    found = load_evaluated_model(str(folder), None, [], store, Resident())
    assert (found.split, found.project.name, found.project.evaluation.tasks) == ("locked", "chosen", ["isles"])


def test_another_projects_questions_leave_a_model_what_it_is(trained: Place, store: Store, elsewhere: Path) -> None:
    other = Place(elsewhere)
    other.project(name="other", base={"quantization": "nf4"}, evaluation={"dev_fraction": 1.0})
    found = load_evaluated_model("models:/chosen/1", str(other.folder), [], store, Resident())
    settings = found.project
    assert (settings.name, settings.evaluation.tasks) == ("other", ["world_facts"])
    assert (settings.base.quantization, settings.training.keep_best_by) == ("none", "score")
    assert (found.split, settings.evaluation.dev_fraction) == ("locked", 0.3)


@pytest.mark.parametrize(
    ("key", "value"),
    [("base.quantization", "nf4"), ("adapter.rank", "8"), ("training.seed", "1"), ("evaluation.dev_fraction", "0.9")],
)
def test_an_override_that_would_make_it_another_model_is_refused(store: Store, key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"models:/chosen/1: --{key} is .*, with which the model was trained"):
        load_evaluated_model("models:/chosen/1", None, [(key, value)], store, Resident())


def test_an_override_that_agrees_with_the_model_is_taken(store: Store) -> None:
    found = load_evaluated_model(
        "models:/chosen/1", None, [("base.quantization", "none"), ("adapter.rank", "4")], store, Resident()
    )
    assert found.version == "chosen/1"


def test_an_adapter_folder_is_scored_on_unquantised_weights(store: Store, tmp_path: Path) -> None:
    found = load_evaluated_model(str(adapter_folder(store, tmp_path)), None, ASK, store, Resident())
    assert found.base.identity.quantization == "none"


def test_a_bare_model_is_scored_unquantised(store: Store) -> None:
    assert load_evaluated_model("builtin:tiny", None, ASK, store, Resident()).base.identity.quantization == "none"


@pytest.mark.parametrize(("recorded", "loaded"), [("c0ffee", "c0ffee"), ("sha256:c0ffee", "main"), (None, "main")])
def test_an_adapters_base_is_loaded_at_the_commit_that_it_names(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: str | None, loaded: str
) -> None:
    class Seen(Exception):
        """Ends the test before a model is loaded."""

    def seen(base: Any, *_args: Any, **_options: Any) -> None:
        raise Seen(base.revision)

    folder = adapter_folder(store, tmp_path, base_model_name_or_path="acme/base", revision=recorded)
    monkeypatch.setattr("tunery.models.source.check_base", seen)  # the first to need it
    with pytest.raises(Seen, match=f"^{loaded}$"):
        load_evaluated_model(str(folder), None, ASK, store, Resident())


@pytest.mark.parametrize(("text", "told"), [("{", "not JSON"), ("[1]", "its content is .1., but must be a mapping")])
def test_a_damaged_adapter_config_is_told(store: Store, tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(RefError, match=rf"adapter_config\.json: {told}"):
        load_evaluated_model(str(tmp_path), None, ASK, store, Resident())
