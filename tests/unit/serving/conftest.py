"""The store of the tracking tests, for what serving reads from one."""

from __future__ import annotations

from tests.unit.tracking.conftest import fresh_database, store

__all__ = ["fresh_database", "store"]
