"""`tunery promote`, `rollback` and `history` with two real adapters: one learned much, the other nearly nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console, RenderableType

from tests.integration.conftest import MakePlace, Place
from tunery.cli.promote import promote as promote_command
from tunery.config.load import load_project
from tunery.errors import ConfigError, InputError, RefError, Refused
from tunery.promotion import promote as story
from tunery.promotion.candidate import find_candidate
from tunery.promotion.gates import BaselineDifference, Evidence, FormScore, decide
from tunery.promotion.history import history
from tunery.promotion.measure import Measured
from tunery.promotion.promote import promote
from tunery.promotion.report import Verdict
from tunery.promotion.rollback import rollback
from tunery.promotion.store import DECISION, promotions
from tunery.records.scores import SCORE, Difference
from tunery.runs.train import train
from tunery.tracking.aliases import PENDING, Aliases, AliasMove, as_tag, current_aliases
from tunery.tracking.redact import redact
from tunery.tracking.store import Store, connect

FACTS = Path(__file__).parents[2] / "projects" / "quickstart" / "data" / "facts.jsonl"
WEAK, STRONG = "models:/small/1", "models:/small/2"


@dataclass
class Watched:
    """Keeps what a person would have seen; `on` is called at a step that begins so."""

    said: list[str] = field(default_factory=list)
    on: Mapping[str, Callable[[], None]] = field(default_factory=dict)

    def step(self, text: str) -> None:
        self.said.append(text)
        for beginning, act in self.on.items():
            if text.startswith(beginning):
                act()

    def show(self, renderable: RenderableType) -> None:
        console = Console(width=200)
        with console.capture() as shown:
            console.print(renderable)
        self.said.append(shown.get())

    def training(self, metrics: object, total_steps: int) -> None: ...

    def end_training(self) -> None: ...

    @property
    def text(self) -> str:
        return "\n".join(self.said)


@pytest.fixture(scope="module")
def trained(make_place: MakePlace) -> Place:
    """small/1 was trained for one step, small/2 for 30: enough to answer most questions."""
    place = make_place("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNERY_HOME", str(place.folder / "home"))
        patch.setenv("MLFLOW_TRACKING_URI", "unset")
        patch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
        patch.chdir(place.folder)
        for steps in (1, 30):
            file = place.project(
                base={"quantization": "nf4"},
                adapter={"rank": 16, "alpha": 32, "target_modules": "all-linear"},
                data={"train": [{"source": str(FACTS), "format": "messages"}]},
                training={"max_steps": steps, "learning_rate": 3.0e-3, "micro_batch_size": 16, "checkpoints": 1},
                evaluation={
                    "tasks": ["world_facts", "world_comparison"],
                    "primary": {"world_facts": "acc"},
                    "limit": 120,
                    "batch_size": 64,
                    "generation": {"prompts": 0},
                },
                promotion={"min_gain": 0.0, "guard": {"world_comparison": -0.25}},
            )
            train(load_project(file), Watched(), tracking_uri=place.uri)
    return place


@pytest.fixture
def store(trained: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A copy of the database: what a test moves or spoils stays its own; files are read where they lie."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "unset")  # connect() sets it: restored afterwards
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    monkeypatch.chdir(tmp_path)
    shutil.copy2(trained.folder / "mlflow.db", tmp_path / "mlflow.db")
    return connect(f"sqlite:///{tmp_path}/mlflow.db", "small")


def run_of(store: Store, version: int) -> str:
    return str(store.client.get_model_version("small", str(version)).run_id)


def kinds(store: Store) -> list[str]:
    everywhere = [experiment.experiment_id for experiment in store.client.search_experiments()]
    return sorted(run.data.tags["tunery.kind"] for run in store.client.search_runs(everywhere))


def judged_as(monkeypatch: pytest.MonkeyPatch, gain: float, **changes: Any) -> None:
    """Promotions are judged on this gain, without a model being loaded."""

    def measured(candidate: Any, champion: int | None, *_: object) -> Measured:
        baselines = ("champion", "base") if champion else ("base",)
        found = Difference(gain, gain - 0.01, gain + 0.01, items=60, score=0.5 + gain, baseline=0.5)
        plain = Evidence(
            candidate=candidate.label,
            champion=f"small/{champion}" if champion else None,
            base="builtin:tiny",
            revision="sha256:" + "ab" * 32,
            license="apache-2.0",
            differences=[
                BaselineDifference(what, baseline, found)  # type: ignore[arg-type]
                for what in (SCORE, "world_comparison")
                for baseline in baselines
            ],
            forms={"trained": FormScore(0.5 + gain, 0.0, 60)},
            recorded=0.0,
        )
        return Measured(replace(plain, **changes))

    monkeypatch.setattr(story, "measure", measured)


# ---- judged on real answers


def test_a_real_gain_becomes_the_first_champion_and_its_evidence_is_kept(store: Store) -> None:
    watched = Watched()
    verdict = promote(STRONG, None, [], watched, tracking_uri=store.uri)
    assert isinstance(verdict, Verdict)
    assert verdict.word == "accepted"
    assert current_aliases(store, "small") == Aliases(2, None)

    forms = verdict.evidence.forms
    assert set(forms) == {"trained", "adapter", "merged"}
    recorded = store.client.get_run(run_of(store, 2)).data.metrics
    assert forms["trained"].drift == 0.0
    assert verdict.evidence.recorded == 0.0, "the adapter answers in a fresh process as it did when it was trained"
    assert verdict.evidence.find(SCORE, "base") is not None
    assert recorded["score"] > 0.5

    (kept,) = promotions(store, "small")
    files = {file.path for file in store.client.list_artifacts(kept.run_id)}
    assert {"evidence.json", "report.md", "samples", "config"} <= files
    who = {Path(file.path).name for file in store.client.list_artifacts(kept.run_id, "samples")}
    assert who == {"candidate", "candidate-adapter", "candidate-merged", "base"}
    version = store.client.get_model_version("small", "2")
    assert version.tags["tunery.promotion"] == "accepted"
    assert version.tags["tunery.promotion.run"] == kept.run_id
    assert json.loads(version.tags["tunery.promotion.rules"])["guard"] == {"world_comparison": -0.25}
    assert version.description.startswith("# small/2: accepted")
    assert (kept.decision, kept.version, kept.champion) == ("accepted", 2, None)


def test_what_learned_nothing_is_refused_and_no_alias_moves(store: Store) -> None:
    store.client.set_registered_model_alias("small", "champion", "2")
    watched = Watched()
    with pytest.raises(Refused, match="small/1 did not pass these gates: better than the champion, better") as told:
        promote(
            WEAK,
            None,
            [("promotion.deploy", "merged"), ("promotion.max_drift", "1.0")],
            watched,
            tracking_uri=store.uri,
        )
    assert told.value.exit_code == 3
    assert redact(str(told.value)) == str(told.value), "nothing of it reads as a secret"
    assert current_aliases(store, "small") == Aliases(2, None)
    (kept,) = promotions(store, "small")
    assert (kept.decision, kept.applied, kept.champion) == ("refused", None, 2)
    assert store.client.get_run(kept.run_id).info.status == "FINISHED"
    assert "tunery.promotion" not in store.client.get_model_version("small", "1").tags
    assert "scoring the champion, small/2, on the same items" in watched.said
    assert "form merged" in watched.text
    everywhere = [experiment.experiment_id for experiment in store.client.search_experiments()]
    bases = store.client.search_runs(everywhere, "tags.`tunery.kind` = 'base'")
    assert {run.data.tags["tunery.quantization"] for run in bases} == {"nf4", "none"}, "in the weights deployed, too"


def test_an_adapter_that_does_not_load_is_refused_with_the_reason(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunery.promotion import measure

    logged_files = measure._files

    def damaged(*words: Any) -> Any:
        files = logged_files(*words)
        (files.folder / "adapter_model.safetensors").write_bytes(b"\x80\x04spoiled")
        return files

    monkeypatch.setattr(measure, "_files", damaged)
    with pytest.raises(Refused, match="loads in a fresh process, no pickle in the folder"):
        promote(STRONG, None, [], Watched(), tracking_uri=store.uri)
    assert current_aliases(store, "small") == Aliases()


def test_a_champion_whose_files_are_gone_is_no_baseline_and_no_obstacle_to_force(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunery.promotion import measure

    store.client.set_registered_model_alias("small", "champion", "2")
    candidate = find_candidate(WEAK, None, [("evaluation.dev_fraction", "0.1")], store)
    assert candidate.dev_fraction == 0.5, "a smaller share now does not unlock what a search may have looked at"

    def gone(label: str, *_: object) -> Any:
        raise RefError(label, "its files are gone from the artifact store.")

    monkeypatch.setattr(measure, "_files", gone)
    nothing: Any = None  # of the candidate's files none is looked at
    plain = Evidence(candidate.label, "small/2", "builtin:tiny", "sha256:" + "ab" * 32, "apache-2.0")
    champion, found = measure._champion(candidate, nothing, 2, plain, Path(), store)
    assert (champion, found.champion) == (None, "small/2")
    assert "The champion could not be scored: small/2: its files are gone" in found.notes[0]
    gate = decide(found, candidate.rules).gates[0]
    assert (gate.name, gate.passed, gate.reason) == ("better than the champion", False, "not measured")


# ---- what is done about a verdict


def test_a_dry_run_leaves_nothing_behind(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    judged_as(monkeypatch, 0.1)
    before = kinds(store)
    verdict = promote(STRONG, None, [], Watched(), dry_run=True, tracking_uri=store.uri)
    assert verdict is not None
    assert verdict.word == "accepted"
    assert (current_aliases(store, "small"), kinds(store)) == (Aliases(), before)


def test_a_dry_run_of_a_refused_candidate_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    judged_as(monkeypatch, 0.0)
    before = kinds(store)
    with pytest.raises(Refused):
        promote(STRONG, None, [], Watched(), dry_run=True, tracking_uri=store.uri)
    assert kinds(store) == before


def test_force_moves_past_a_gate_and_the_reason_is_recorded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    judged_as(monkeypatch, 0.0)
    promote(WEAK, None, [], Watched(), force="the old one swears", tracking_uri=store.uri)
    (kept,) = promotions(store, "small")
    assert (kept.decision, kept.reason) == ("forced", "the old one swears")
    tags = store.client.get_model_version("small", "1").tags
    assert (tags["tunery.promotion"], tags["tunery.promotion.forced"]) == ("forced", "the old one swears")


def test_force_needs_a_reason() -> None:
    outcome = CliRunner().invoke(promote_command, [STRONG, "--force", " "])
    assert outcome.exit_code == 2
    assert "--force needs a reason" in outcome.output


def test_the_champion_itself_is_told_that_it_is(store: Store) -> None:
    store.client.set_registered_model_alias("small", "champion", "2")
    watched, before = Watched(), kinds(store)
    assert promote(run_of(store, 2), None, [], watched, tracking_uri=store.uri) is None
    assert "small/2 is already the champion" in watched.text
    assert kinds(store) == before


def test_who_is_overtaken_while_being_judged_is_told_and_moves_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged_as(monkeypatch, 0.1)
    other = Watched(on={"run ": lambda: promote(WEAK, None, [], Watched(), tracking_uri=store.uri)})  # type: ignore[dict-item]
    with pytest.raises(Refused, match="no other promotion came first"):
        promote(STRONG, None, [], other, tracking_uri=store.uri)
    assert current_aliases(store, "small") == Aliases(1, None)
    decided = {one.version: (one.decision, one.applied is not None) for one in promotions(store, "small")}
    assert decided == {1: ("accepted", True), 2: ("refused", False)}


def test_a_run_that_is_no_version_yet_becomes_one_only_if_it_passes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = run_of(store, 2)
    store.client.delete_model_version("small", "2")
    store.client.set_tag(run_id, "tunery.kind", "trial")
    judged_as(monkeypatch, 0.0)
    with pytest.raises(Refused, match=f"run {run_id} did not pass"):
        promote(f"runs:/{run_id}", None, [], Watched(), tracking_uri=store.uri)
    assert len(store.client.search_model_versions("name = 'small'")) == 1
    judged_as(monkeypatch, 0.1)
    verdict = promote(f"runs:/{run_id}", None, [], Watched(), tracking_uri=store.uri)
    champion = current_aliases(store, "small").champion
    assert verdict is not None
    assert verdict.evidence.candidate == f"small/{champion}"
    assert store.client.get_model_version("small", str(champion)).run_id == run_id


@pytest.mark.parametrize("by", ["name", "run id"])
def test_a_study_leads_to_its_winners_version(store: Store, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    judged_as(monkeypatch, 0.1)
    tags = {"tunery.kind": "study", "tunery.study": "nightly", "tunery.registered_version": "small/2"}
    study = store.client.create_run(store.experiment_id(), tags=tags, run_name="nightly")
    promote("nightly" if by == "name" else study.info.run_id, None, [], Watched(), tracking_uri=store.uri)
    assert current_aliases(store, "small").champion == 2


def test_a_rollback_restores_the_champion_before_and_another_undoes_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged_as(monkeypatch, 0.1)
    promote(WEAK, None, [], Watched(), tracking_uri=store.uri)
    promote(STRONG, None, [], Watched(), tracking_uri=store.uri)
    page = store.client.get_model_version("small", "1").description
    assert current_aliases(store, "small") == Aliases(2, 1)
    assert rollback("small", Watched(), reason="it\n# swears<br>", tracking_uri=store.uri) == 1
    assert current_aliases(store, "small") == Aliases(1, 2)
    assert store.client.get_model_version("small", "1").description == page
    assert rollback("small", Watched(), tracking_uri=store.uri) == 2

    watched = Watched()
    events = history("small", watched, tracking_uri=store.uri)
    assert [(event.version, event.decision) for event in events] == [
        ("small/1", "accepted"),
        ("small/2", "accepted"),
        ("small/1", "rolled back"),
        ("small/2", "rolled back"),
    ]
    assert [event.until is None for event in events] == [False, False, False, True]
    assert [event.score for event in events] == [0.6, 0.6, 0.6, 0.6]
    assert "swears" in watched.text
    pages = [store.client.get_run(one.run_id).data.tags["mlflow.note.content"] for one in promotions(store, "small")]
    assert any(page.rstrip().endswith("it # swears&lt;br>") for page in pages)


def test_a_rollback_to_a_version_whose_files_are_gone_changes_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.client.set_registered_model_alias("small", "champion", "2")
    store.client.set_registered_model_alias("small", "previous", "1")
    before = kinds(store)
    monkeypatch.setattr(type(store.client), "list_logged_model_artifacts", lambda *_: [])
    with pytest.raises(RefError, match="models:/small/1: its files are gone"):
        rollback("small", Watched(), tracking_uri=store.uri)
    assert (current_aliases(store, "small"), kinds(store)) == (Aliases(2, 1), before)


def test_the_next_command_finishes_what_a_dead_one_had_begun(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run = store.client.create_run(
        store.experiment_id(),
        tags={"tunery.kind": "promotion", "tunery.promotion.model": "small", DECISION: "accepted"},
    )
    left = AliasMove(Aliases(), Aliases(1, None), run.info.run_id, "2026-01-02T03:04:05+00:00")
    store.client.set_registered_model_tag("small", PENDING, as_tag(left))
    judged_as(monkeypatch, 0.1)
    watched = Watched()
    promote(STRONG, None, [], watched, tracking_uri=store.uri)
    assert "small/1 is the champion" in watched.said[0]
    assert current_aliases(store, "small") == Aliases(2, 1)
    assert [one.decision for one in promotions(store, "small") if one.applied] == ["accepted", "accepted"]


def test_a_champion_that_was_set_by_hand_is_told(store: Store) -> None:
    store.client.set_registered_model_alias("small", "champion", "2")
    watched = Watched()
    assert history("small", watched, tracking_uri=store.uri) == []
    assert "small/2 has the alias champion, which no promotion recorded" in watched.text


# ---- bad input: one clear message, exit code 2, nothing changed


def spoil_kind(store: Store) -> str:
    return str(store.client.create_run(store.experiment_id(), tags={"tunery.kind": "evaluation"}).info.run_id)


def spoil_status(store: Store) -> str:
    store.client.update_run(run_of(store, 2), status="FAILED")
    return STRONG


def spoil_score(store: Store) -> str:
    store.client.log_metric(run_of(store, 2), "score", float("nan"), step=99)
    return STRONG


def spoil_run(store: Store) -> str:
    store.client.delete_run(run_of(store, 2))
    return STRONG


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda store: "models:/small@champion", "nothing has the alias 'champion' of 'small'"),
        (lambda store: "models:/small/9", "there is no version 9 of 'small'"),
        (lambda store: "0" * 32, "there is no run '0000"),
        (lambda store: "weekly", "no study of this name"),
        (spoil_kind, "this run logged no model"),
        (spoil_status, "is 'FAILED', but must be FINISHED"),
        (spoil_score, "score of its run .* is nan, but must be a number"),
        (spoil_run, "was deleted"),
    ],
)
def test_a_reference_that_cannot_be_promoted(store: Store, spoil: Callable[[Store], str], told: str) -> None:
    ref = spoil(store)
    before = kinds(store)
    with pytest.raises(RefError, match=told) as error:
        promote(ref, None, [], Watched(), tracking_uri=store.uri)
    assert error.value.exit_code == 2
    assert (current_aliases(store, "small"), kinds(store)) == (Aliases(), before)


def test_a_run_without_answers_cannot_be_promoted(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download = store.client.download_artifacts
    monkeypatch.setattr(
        type(store.client),
        "download_artifacts",
        lambda _, run_id, path, place: download(run_id, f"{path}-gone" if path == "samples" else path, place),
    )
    with pytest.raises(RefError, match="keeps no answers"):
        promote(STRONG, None, [], Watched(), tracking_uri=store.uri)


def test_a_project_without_rules_promotes_nothing(store: Store, trained: Place, tmp_path: Path) -> None:
    text = (trained.folder / "project.yaml").read_text()
    (tmp_path / "project.yaml").write_text(
        text.partition("promotion:")[0]
        + text.partition("promotion:")[2].partition("\ntraining")[1]
        + text.partition("\ntraining")[2]
    )
    with pytest.raises(ConfigError, match="there are no rules for a promotion"):
        promote(STRONG, str(tmp_path), [], Watched(), tracking_uri=store.uri)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("promotion.guard", "{world_comparison: 0.1}", "promotion.guard.world_comparison is 0.1"),
        ("promotion.deploy", "onnx", "promotion.deploy is 'onnx'"),
        ("promotion.min_gian", "0", "promotion.min_gian"),
        ("adapter.rank", "4", "with which the model was trained"),
    ],
)
def test_rules_that_cannot_be_used(store: Store, key: str, value: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        promote(STRONG, None, [(key, value)], Watched(), tracking_uri=store.uri)


def test_questions_without_locked_items_are_refused(store: Store) -> None:
    with pytest.raises(InputError, match="has no locked items"):
        promote(STRONG, None, [("evaluation.dev_fraction", "1.0")], Watched(), dry_run=True, tracking_uri=store.uri)


@pytest.mark.parametrize("act", [rollback, history])
def test_a_model_that_is_not_there(store: Store, act: Callable[..., object]) -> None:
    with pytest.raises(RefError, match=r"nobody: no registered model of this name\. There are: small"):
        act("nobody", Watched(), tracking_uri=store.uri)


def test_nothing_to_go_back_to(store: Store) -> None:
    before = kinds(store)
    with pytest.raises(RefError, match="no version has the alias `previous`"):
        rollback("small", Watched(), tracking_uri=store.uri)
    assert kinds(store) == before
