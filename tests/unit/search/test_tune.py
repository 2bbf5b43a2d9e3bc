"""What a study says at its end."""

from __future__ import annotations

import pytest

from tunery.records.studies import StudyRecord
from tunery.search.session import StudyOptions
from tunery.search.tune import closing_lines
from tunery.tracking.store import Store


@pytest.mark.parametrize(
    ("key", "value", "last"),
    [
        ("cfg.promotion.min_gain", "0.0", "next: tunery promote models:/x/2, or tunery chat models:/x/2"),
        ("cfg.promotion", "null", "next: tunery chat models:/x/2"),
    ],
)
def test_a_promotion_is_advised_only_where_there_are_rules_for_it(
    store: Store, key: str, value: str, last: str
) -> None:
    run_id = store.client.create_run(store.experiment_id()).info.run_id
    store.client.log_param(run_id, key, value)
    record = StudyRecord(
        "s", "quickstart", run_id, {"score": "maximize"}, {}, "grid", "none", 0, (), model_version="x/2"
    )
    assert list(closing_lines(record, StudyOptions(tracking_uri=store.uri)))[-1] == last
