"""What a person at the terminal is told, kept for a test to read."""

from __future__ import annotations

from tunery.runs.observer import Observer


class Told(Observer):
    """Keeps every line that is shown."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def step(self, text: str) -> None:
        self.lines.append(text)
