"""Settings that must be there before any library is imported."""

from __future__ import annotations

import os

# Spinning threads make small tests on busy cores many times slower; see cli/verbs.py.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
