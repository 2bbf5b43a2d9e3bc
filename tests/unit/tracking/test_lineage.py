"""What a model was trained on, told from the first data to the last."""

from __future__ import annotations

from tunery.records.rows import DataReport, SourceReport
from tunery.tracking.lineage import lineage
from tunery.tracking.run import open_run
from tunery.tracking.store import Store


def trained(store: Store, *names: str, start: str | None = None, run_id: str | None = None) -> str:
    sources = tuple(SourceReport(name, "messages", 9, 9, 1.0, f"sha256:{name}") for name in names)
    report = DataReport(sources, (), {}, 8, 1, 100, {"50": 12}, (), 0.5, {})
    with open_run(store, "train", "small") as tracker:
        tracker.log_dataset(report)
        if start is not None:
            tracker.log_start(start, run_id, None, report)
    return tracker.run_id


def test_a_chain_of_trainings_names_every_link(store: Store) -> None:
    first = trained(store, "facts.jsonl", "more.jsonl")
    second = trained(store, "writing.jsonl", start="models:/small/1", run_id=first)
    third = trained(store, "style.jsonl", start="models:/small/2", run_id=second)
    assert lineage(store, first) == "facts.jsonl, more.jsonl"
    assert lineage(store, third) == "facts.jsonl, more.jsonl → writing.jsonl → style.jsonl"
    assert store.client.get_run(third).data.tags["tunery.datasets"] == "style.jsonl"


def test_what_another_tools_adapter_learned_from_is_called_unknown(store: Store) -> None:
    assert lineage(store, trained(store, "writing.jsonl", start="adapters/x")) == "unknown data → writing.jsonl"
    gone = trained(store, "writing.jsonl", start="runs:/gone", run_id="0" * 32)
    assert lineage(store, gone) == "unknown data → writing.jsonl"
    assert lineage(store, None) == ""
