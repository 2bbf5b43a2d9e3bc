from __future__ import annotations

import psutil

from tunery.models.device import available_bytes


def test_the_cpus_memory_is_what_is_left() -> None:
    assert 0 < available_bytes("cpu") <= psutil.virtual_memory().total
