"""Settings that must be there before any library is imported."""

from __future__ import annotations

import os
import signal

# Spinning threads make small tests on busy cores many times slower; see cli/verbs.py.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Under nohup, or in the background of a script, these are ignored; children would inherit that, and no test of a signal
# could pass.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
