from __future__ import annotations

from pathlib import Path

import pytest

from tunery.errors import RefError
from tunery.tracking.flavor.rebuild import read_facts


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("flavors: [unclosed", "MLmodel: not YAML"),
        ("- a\n- list\n", "MLmodel: its content is .*, but must be a mapping"),
        ("", "MLmodel: its content is None, but must be a mapping"),
        ("flavors: 3\n", "MLmodel: flavors is 3, but must be a mapping"),
        (
            "flavors: {tunery: {format: 1}}\n",
            "MLmodel: flavors.tunery is .*, but must be the section that tunery wrote",
        ),
        ("flavors: {tunery: [1]}\n", "MLmodel: flavors.tunery is .*, but must be the section that tunery wrote"),
        ("flavors: {sklearn: {}}\n", "holds a model of the flavors sklearn"),
    ],
)
def test_a_damaged_mlmodel_is_told(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "MLmodel").write_text(text)
    with pytest.raises(RefError, match=told):
        read_facts(tmp_path)
