"""Going back after somebody changed the aliases in MLflow's pages: words and store agree."""

from __future__ import annotations

import pytest
from tests.told import Told

from tunery.errors import RefError
from tunery.promotion import store as promotions
from tunery.promotion.rollback import rollback
from tunery.tracking.store import Store


@pytest.fixture
def small(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Two versions; the second is champion, the first previous."""
    monkeypatch.setattr(promotions, "check_files", lambda *_: None)
    store.client.create_registered_model("small")
    for alias in ("previous", "champion"):
        version = store.client.create_model_version("small", "s3://nowhere").version
        store.client.set_registered_model_alias("small", alias, version)
    return store


def aliases_of(store: Store) -> dict[str, int]:
    return {alias: int(number) for alias, number in store.client.get_registered_model("small").aliases.items()}


@pytest.mark.parametrize("is_version_deleted", [False, True])
def test_a_rollback_without_a_champion_leaves_no_previous(small: Store, is_version_deleted: bool) -> None:
    if is_version_deleted:
        small.client.delete_model_version("small", "2")
    else:
        small.client.delete_registered_model_alias("small", "champion")
    told = Told()
    assert rollback("small", told, tracking_uri=small.uri) == 1
    assert "models:/small@champion is small/1 again, no version is previous" in told.lines
    assert aliases_of(small) == {"champion": 1}
    with pytest.raises(RefError, match="no version has the alias `previous`"):
        rollback("small", told, tracking_uri=small.uri)


def test_a_version_that_has_both_aliases_is_named(small: Store) -> None:
    small.client.set_registered_model_alias("small", "champion", "1")
    with pytest.raises(RefError, match="small/1 has both aliases, `champion` and `previous`"):
        rollback("small", Told(), tracking_uri=small.uri)
