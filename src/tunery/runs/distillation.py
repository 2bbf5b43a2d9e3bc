"""What is said and kept of context distillation: who taught, after which context."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunery.data.teacher_rows import TeacherRows
from tunery.runs.cache import Loaded
from tunery.runs.context import facts_of

if TYPE_CHECKING:
    from tunery.tracking.run import Tracker

_WHO = {"initial": "the base itself", "current": "the model as it had become at each step"}
_ANEW = {"never": "", "epoch": ", drawn anew for each epoch", "step": ", drawn anew for each step"}


def log_context(loaded: Loaded, tracker: Tracker) -> None:
    """Keep the teacher's context as context.txt; of examples that are drawn anew, the first ones."""
    if loaded.teacher is not None:
        tracker.log_text(_shown(loaded.teacher, loaded.tokenizer), "context.txt")


def sentence_on(teacher: TeacherRows | None, tokenizer: Any) -> str:
    """Who taught and what stood before each row; nothing for another method."""
    if teacher is None:
        return ""
    wanted = teacher.distillation
    tokens = len(tokenizer.encode(_shown(teacher, tokenizer), add_special_tokens=False))
    read = "a text" if wanted.examples is None else f"{wanted.examples} solved examples"
    context = f"{read} of {tokens:,} tokens{_ANEW[wanted.resample]}, which the student does not see"
    return f"The teacher is {_WHO[wanted.teacher]}; before each row it reads {context}."


def _shown(teacher: TeacherRows, tokenizer: Any) -> str:
    text = teacher.distillation.context
    return text if text is not None else facts_of(teacher.context(), teacher.data.template == "chat", tokenizer).text
