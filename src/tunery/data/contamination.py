"""Training rows that hold an evaluation item.

Source: Brown et al., "Language Models are Few-Shot Learners", appendix C, arXiv:2005.14165.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from tunery.data.clean import text_of
from tunery.records.rows import Conversation

MANY = 10
"""A run of words that more rows or items share is an instruction or a stock phrase, and tells no item."""
FEWEST_WORDS = 3
"""Items of fewer words say too little to be recognised by: "yes" is in every other row."""

# Han, kana, Thai, Lao, Myanmar and Khmer are written without spaces: there, each character counts as a word.
_UNSPACED = (
    "\u3005-\u3007\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9d\U00020000-\U000323af"
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e50-\u0e59\u0e81-\u0edf\u1000-\u1049\u1050-\u109f\u1780-\u17d3\u17e0-\u17e9"
)
_WORD = re.compile(f"[{_UNSPACED}]|[^\\W_{_UNSPACED}]+")
_ONE_CHARACTER = re.compile(f"[{_UNSPACED}]")
_CHARACTERS_A_WORD = 2
"""A run of 13 characters is a stock phrase of exam questions ("which of the following is right"), as 6 words are."""
_Gram = tuple[str, ...]


@dataclass(frozen=True)
class Overlap:
    """Training rows that share words with evaluation items."""

    found: Mapping[str, str]  # origin of each row that holds words of an item -> the task of the first such item
    shared: tuple[str, ...]  # origins of rows whose words in common stand in many rows or items: an instruction, say


def find_overlap(
    conversations: Iterable[Conversation], evaluation_texts: Mapping[str, Iterable[str]], ngram: int
) -> Overlap:
    """Rows that share a run of words with an evaluation item.

    Case and punctuation do not count. An item of fewer words than `ngram` must occur in the row whole; one of fewer
    than `FEWEST_WORDS` is not looked for. In scripts without spaces, two characters count as a word. Runs of words in
    more than `MANY` different rows or items are cut out of an item before it is looked for: an instruction tells
    nothing, nor does its end with the word that follows. A row that holds all of an item is found, however many do.
    """
    items = [_Item(task, words(text), ngram) for task, texts in evaluation_texts.items() for text in texts]
    every = _Index((item.task, run) for item in items for run in item.runs)
    rows = ((one.origin, words("\n".join(map(text_of, one.messages)))) for one in conversations)
    held = {origin: (row, own) for origin, row in rows if (own := dict(every.matches(row)))}
    shared = _more_than_many(set(item.runs) for item in items)
    common = shared | _more_than_many({tuple(row): own for row, own in held.values()}.values())
    specific = _Index((item.task, run) for item in items for run in item.without(common))
    whole: dict[_Gram, list[_Item]] = {}
    for item in items:
        if not shared.issuperset(item.runs):  # nor of no runs at all
            whole.setdefault(item.runs[0], []).append(item)
    found = {}
    for origin, (row, own) in held.items():
        tasks = [item.task for gram in own for item in whole.get(gram, ()) if own.keys() >= set(item.runs)]
        tasks += [task for _, task in specific.matches(row)]
        if tasks:
            found[origin] = tasks[0]
    return Overlap(found, tuple(origin for origin in held if origin not in found))


def words(text: str) -> list[str]:
    """The words of a text, case folded and without punctuation; of scripts without spaces, the characters."""
    return _WORD.findall(text.casefold())


def _runs(item: Sequence[str], ngram: int) -> Iterator[_Gram]:
    # In characters where most of the item is in a script without spaces.
    unspaced = 2 * sum(_ONE_CHARACTER.fullmatch(word) is not None for word in item) > len(item)
    units = _CHARACTERS_A_WORD if unspaced else 1
    if len(item) < min(FEWEST_WORDS, ngram) * units:
        return
    length = min(len(item), ngram * units)
    for start in range(len(item) - length + 1):
        yield tuple(item[start : start + length])


class _Item:
    """One item's words, and the runs of them that it is recognised by."""

    def __init__(self, task: str, text: Sequence[str], ngram: int) -> None:
        self.task, self._text, self._ngram = task, text, ngram
        self.runs = list(_runs(text, ngram))

    def without(self, common: Collection[_Gram]) -> Iterator[_Gram]:
        """The runs of what is left when the words of common runs are cut out."""
        shared = [run in common for run in self.runs]
        if not any(shared):
            yield from self.runs
            return
        cut = [False] * len(self._text)
        for start, is_shared in enumerate(shared):
            if is_shared:
                cut[start : start + len(self.runs[start])] = [True] * len(self.runs[start])
        for is_cut, part in groupby(zip(cut, self._text, strict=True), key=lambda pair: pair[0]):
            if not is_cut:
                yield from _runs([word for _, word in part], self._ngram)


def _more_than_many(holders: Iterable[Collection[_Gram]]) -> set[_Gram]:
    counts: Counter[_Gram] = Counter()
    for grams in holders:
        counts.update(iter(grams))  # of a mapping, Counter would add the values
    return {gram for gram, count in counts.items() if count > MANY}


class _Index:
    """Runs of words to look for in rows, each with the task of the first item that has it."""

    def __init__(self, grams: Iterable[tuple[str, _Gram]]) -> None:
        self._by_length: dict[int, dict[_Gram, str]] = {}
        for task, gram in grams:
            self._by_length.setdefault(len(gram), {}).setdefault(gram, task)
        self._starts = {gram[:FEWEST_WORDS] for by_gram in self._by_length.values() for gram in by_gram}

    def matches(self, row: Sequence[str]) -> Iterator[tuple[_Gram, str]]:
        """Every run that a row holds, in order, with its task."""
        shortest = min(self._by_length, default=0)
        # Nearly every place is ruled out by its first words alone, before any longer run is cut out of the row.
        head = min(FEWEST_WORDS, shortest)
        for start in range(len(row) - shortest + 1 if self._by_length else 0):
            if tuple(row[start : start + FEWEST_WORDS]) not in self._starts and head == FEWEST_WORDS:
                continue
            for length, by_gram in self._by_length.items():
                gram = tuple(row[start : start + length])
                if gram in by_gram:
                    yield gram, by_gram[gram]
