"""What is said of a candidate before anything is asked."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tunery.promotion.measure import _plain


@pytest.mark.parametrize(
    ("card", "rules", "told"),
    [("mit", "apache-2.0", "mit"), ("unknown", "mit", "mit"), ("unknown", None, "unknown"), (None, None, None)],
)
def test_a_card_that_does_not_know_its_licence_leaves_it_to_the_rules(
    tmp_path: Path, card: str | None, rules: str | None, told: str | None
) -> None:
    candidate: Any = SimpleNamespace(label="small/2", name="small", rules=SimpleNamespace(license=rules), notes=())
    identity = SimpleNamespace(model="acme/base", revision="main", license=card)
    own: Any = SimpleNamespace(folder=tmp_path, facts=SimpleNamespace(identity=identity))
    assert _plain(candidate, own, 1).license == told
