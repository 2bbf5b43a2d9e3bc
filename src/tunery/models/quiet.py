"""Keeping the libraries' own progress bars and start-up remarks out of the terminal."""

from __future__ import annotations

import logging
import warnings


def quiet_libraries() -> None:
    """Silence what transformers, TRL, PEFT and bitsandbytes say when nothing is wrong; errors still appear."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for name in ("bitsandbytes", "trl", "accelerate", "peft", "datasets", "kernels"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # TRL still uses names that transformers has renamed; nothing that a user could change.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft)\.")
