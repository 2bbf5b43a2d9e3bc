"""Who lives on the Lantern Isles and which towers stand there: everything that can be known, drawn from one seed."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from .wordings import ATTRIBUTES, DIMENSIONS, GRADES

Shore = Literal["west", "east"]
_Value = TypeVar("_Value")

VILLAGERS = 160
TOWERS = 64

_ONSETS = (
    "B",
    "Br",
    "C",
    "D",
    "F",
    "G",
    "H",
    "J",
    "K",
    "L",
    "M",
    "N",
    "P",
    "Y",
    "R",
    "S",
    "T",
    "Th",
    "V",
    "W",
)
_MIDDLES = ("a", "e", "i", "o", "u", "ae", "ia")
_CODAS = ("bran", "dle", "finn", "gory", "lis", "mund", "nna", "rick", "sper", "tha", "vin", "wyn")
_SURNAMES = (
    "Quill",
    "Marsh",
    "Tern",
    "Cobb",
    "Rook",
    "Fennel",
    "Gale",
    "Pike",
    "Sorrel",
    "Wick",
    "Dove",
    "Loam",
)
_TOWER_HEADS = (
    "Amber",
    "Brack",
    "Cinder",
    "Dun",
    "Elder",
    "Frost",
    "Raven",
    "Hazel",
    "Iron",
    "Jade",
    "Lark",
    "Mist",
)
_TOWER_TAILS = ("glass", "hook", "mere", "spar", "watch", "beam", "horn", "lock")


@dataclass(frozen=True)
class Villager:
    """A person, with what is true of them and what the tea-house says of them (always something else)."""

    name: str
    shore: Shore
    truth: Mapping[str, str]
    rumour: Mapping[str, str]


@dataclass(frozen=True)
class Tower:
    """A lantern tower, its grade, 0 to 15, in every dimension, and how much it is talked of (no two alike)."""

    name: str
    shore: Shore
    grade: Mapping[str, int]
    fame: int


@dataclass(frozen=True)
class World:
    """All villagers and towers. Fine-tuning is about the west shore, evaluation about the east shore."""

    villagers: tuple[Villager, ...]
    towers: tuple[Tower, ...]

    def villagers_of(self, shore: Shore) -> tuple[Villager, ...]:
        """The villagers of one shore, in the world's order."""
        return tuple(villager for villager in self.villagers if villager.shore == shore)

    def towers_of(self, shore: Shore) -> tuple[Tower, ...]:
        """The towers of one shore, in the world's order."""
        return tuple(tower for tower in self.towers if tower.shore == shore)


def build_world(seed: int) -> World:
    """Draw the whole world.

    Args:
        seed: The only source of chance; strings derived from it seed each part, so parts do not disturb each other.

    Returns:
        A world whose values are spread evenly: on each shore a value is true of as many villagers as any other.
    """
    villagers = tuple(_villagers(random.Random(f"villagers {seed}")))
    towers = tuple(_towers(random.Random(f"towers {seed}")))
    return World(villagers, towers)


def _villagers(rng: random.Random) -> Iterator[Villager]:
    first_names = [onset + middle + coda for onset in _ONSETS for middle in _MIDDLES for coda in _CODAS]
    names = [f"{first} {rng.choice(_SURNAMES)}" for first in rng.sample(first_names, VILLAGERS)]
    for shore, members in _halves(names):
        truths = {a.name: _spread(a.values, len(members), rng) for a in ATTRIBUTES}
        for index, name in enumerate(members):
            truth = {key: values[index] for key, values in truths.items()}
            rumour = {a.name: rng.choice([v for v in a.values if v != truth[a.name]]) for a in ATTRIBUTES}
            yield Villager(name, shore, truth, rumour)


def _towers(rng: random.Random) -> Iterator[Tower]:
    names = rng.sample([head + tail for head in _TOWER_HEADS for tail in _TOWER_TAILS], TOWERS)
    fame = dict(zip(names, rng.sample(range(TOWERS), TOWERS), strict=True))
    for shore, members in _halves(names):
        grades = {d.name: _spread(tuple(range(GRADES)), len(members), rng) for d in DIMENSIONS}
        for index, name in enumerate(members):
            yield Tower(name, shore, {key: values[index] for key, values in grades.items()}, fame[name])


def _halves(names: list[str]) -> tuple[tuple[Shore, list[str]], tuple[Shore, list[str]]]:
    middle = len(names) // 2
    return ("west", names[:middle]), ("east", names[middle:])


def _spread(values: tuple[_Value, ...], count: int, rng: random.Random) -> list[_Value]:
    """`count` values, each as often as the others (up to one), in random order."""
    spread = [values[index % len(values)] for index in range(count)]
    rng.shuffle(spread)
    return spread
