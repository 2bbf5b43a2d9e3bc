"""What a comparison found, as frozen records: tables, pictures and pages are pure functions of these."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from tunery.comparison.entries import RunEntry, Speed, Votes
from tunery.records.scores import SCORE, ChangedAnswers, ChosenAnswers, Difference
from tunery.statistics.ranks import TaskRanks


@dataclass(frozen=True)
class ScoreCell:
    """One contender on one task; its score where `task` is SCORE."""

    task: str
    metric: str
    value: float  # mean over its seeds, in the metric's own direction
    spread: float | None  # standard deviation from seed to seed; None for one seed
    low: float  # confidence interval of the value, from items and seeds; NaN where no error is known
    high: float
    stderr: float | None  # standard error behind that interval
    items: int
    higher_is_better: bool = True
    base: float | None = None  # the base's own value on the same items; None if unknown
    gain: Difference | None = None  # how much better than the base; None without a base
    # What was chosen on a multiple-choice task, over all seeds; None elsewhere, and if the options were not kept.
    answers: ChosenAnswers | None = None
    # How often another option was chosen than the base's, over all seeds; None if either side's options were not kept.
    changed: ChangedAnswers | None = None

    @property
    def delta(self) -> float | None:
        """value - base, in the metric's own direction."""
        return None if self.base is None else self.value - self.base


@dataclass(frozen=True)
class WinRate:
    """How often people preferred the answers to the base's, among the votes that were no ties."""

    votes: Votes
    rate: float
    low: float
    high: float


@dataclass(frozen=True)
class LeaderboardRow:
    """One configuration on a board: its seeds' runs as one row."""

    name: str  # unlike every other name of the comparison
    runs: tuple[RunEntry, ...]  # one entry a seed
    cells: Mapping[str, ScoreCell]  # by task: those that count, then the others that it was scored on
    score: ScoreCell  # mean over the board's tasks, with a minus where less is better
    costs: Mapping[str, float] = field(default_factory=dict)  # means over the runs that know them
    win_rate: WinRate | None = None
    place: int = 0  # its place by score, from 1
    ranks: tuple[int, int] = (0, 0)  # best and worst place that the data allow
    average_rank: float = math.nan  # mean of its ranks over the board's tasks

    @property
    def first(self) -> RunEntry:
        """The run that speaks for what all of them share: base, method, data."""
        return self.runs[0]

    @property
    def speeds(self) -> list[Speed]:
        """Of the first run that has them, for each device, request and batch size: seeds write equally fast."""
        found: dict[object, Speed] = {}
        for run in self.runs:
            for speed in run.speeds:
                found.setdefault((speed.conditions, speed.batch), speed)
        return list(found.values())

    @property
    def seeds(self) -> int:
        """How many runs there are."""
        return len(self.runs)


@dataclass(frozen=True)
class TestedPair:
    """Two contenders on one task, or on SCORE; `difference` is above 0 where `one` is better."""

    task: str
    one: str
    other: str
    difference: Difference


@dataclass(frozen=True)
class Board:
    """Runs that may be ranked together."""

    tasks: tuple[str, ...]  # the tasks whose mean ranks them
    contenders: tuple[LeaderboardRow, ...]  # from the best score on
    pairs: tuple[TestedPair, ...]  # every two contenders on every task, and on SCORE where there are several tasks
    ties: tuple[tuple[str, ...], ...]  # contenders of neighbouring places that are too close to call, best group first
    task_ranks: TaskRanks | None = None  # None where there are too few tasks or contenders
    reason: str = ""  # why these runs do not stand on the main board; empty for the main board
    notes: tuple[str, ...] = ()  # what a reader should know: conditions that nobody recorded, a seed held twice, ...

    @property
    def over_all(self) -> list[TestedPair]:
        """The pairs that places rest on: those on SCORE, or on the only task."""
        task = SCORE if len(self.tasks) > 1 else self.tasks[0]
        return [pair for pair in self.pairs if pair.task == task]


@dataclass(frozen=True)
class UnrankedRun:
    """A run that is not ranked, and why."""

    run: RunEntry
    reason: str


@dataclass(frozen=True)
class Comparison:
    """Everything that a comparison's tables, pictures and page show."""

    boards: tuple[Board, ...]  # the main board, then those that were set apart, each ranked by itself
    unranked: tuple[UnrankedRun, ...]  # runs that are on no board: scores that are no numbers, nothing scored, ...
    confidence: float  # of every interval and every "better"

    @property
    def main(self) -> Board:
        """The largest set of runs that agree."""
        return self.boards[0]
