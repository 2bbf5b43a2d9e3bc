"""Does a lower validation loss mean a better score? Over trials of a study whose losses are over the same tokens."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tunery.records.scores import RankCorrelation
from tunery.records.studies import StudyRecord, TrialRow
from tunery.reporting.rank_correlation import correlation_meaning
from tunery.reporting.text import code, counted, listed, settings_text, short_names
from tunery.statistics.rank_correlation import loss_and_score

_LOSS, _SCORE = "validation/nll", "score"
MOST_GROUPS = 8  # that a report names, and that colours tell apart


@dataclass(frozen=True)
class LossGroup:
    """Trials whose losses are over the same tokens, at least two."""

    name: str  # the settings that they share and others do not: "loss_on=all"; empty if all trials are together
    trials: Sequence[TrialRow]
    correlation: RankCorrelation

    @property
    def losses(self) -> list[float]:
        """Nats per target token, one a trial."""
        return [row.metrics[_LOSS] for row in self.trials]

    @property
    def scores(self) -> list[float]:
        """On dev items, one a trial."""
        return [row.metrics[_SCORE] for row in self.trials]


def loss_groups(record: StudyRecord) -> list[LossGroup]:
    """Complete trials with a loss and a score, by the settings that change what a loss is a mean of; largest first."""
    by_settings: dict[str, list[TrialRow]] = defaultdict(list)
    for row in _measured(record):
        by_settings[settings_text({key: row.settings.get(key) for key in record.loss_settings})].append(row)
    groups = [_group(name, rows) for name, rows in by_settings.items() if len(rows) > 1]
    return sorted(groups, key=lambda group: -len(group.trials))


def sentences(record: StudyRecord) -> Iterator[str]:
    """What the losses say of the scores, a sentence a group; why they say nothing, where no two can be ranked."""
    groups, measured = loss_groups(record), len(_measured(record))
    for group in groups[:MOST_GROUPS]:
        yield (f"{code(group.name)}: " if group.name else "") + correlation_meaning(group.correlation, "trial")
    if smaller := groups[MOST_GROUPS:]:
        trials = sum(len(group.trials) for group in smaller)
        yield f"{counted(len(smaller), 'smaller group')} of {counted(trials, 'trial')} in all: not shown."
    alone = measured - sum(len(group.trials) for group in groups)
    if record.loss_settings and alone and measured > 1:
        names = listed([code(name) for name in short_names(record.loss_settings).values()])
        yield f"{counted(alone, 'trial')} left out: {names} changes what the loss is a mean of."


def _measured(record: StudyRecord) -> list[TrialRow]:
    rows = (row for row in record.trials if row.state == "complete" and {_LOSS, _SCORE} <= set(row.metrics))
    return [row for row in rows if math.isfinite(row.metrics[_LOSS]) and math.isfinite(row.metrics[_SCORE])]


def _group(name: str, rows: list[TrialRow]) -> LossGroup:
    found = loss_and_score([row.metrics[_LOSS] for row in rows], [row.metrics[_SCORE] for row in rows])
    return LossGroup(name, rows, found)
