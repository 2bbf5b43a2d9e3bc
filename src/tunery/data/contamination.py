"""Training rows that hold an evaluation item.

Source: Brown et al., "Language Models are Few-Shot Learners", appendix C, arXiv:2005.14165.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

from tunery.data.clean import text_of
from tunery.records import Conversation

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


def find_overlap(
    conversations: Iterable[Conversation], evaluation_texts: Mapping[str, Iterable[str]], ngram: int
) -> dict[str, str]:
    """Rows that share a run of words with an evaluation item.

    Case and punctuation do not count. An item of fewer words than `ngram` must occur in the row whole; one of fewer
    than `FEWEST_WORDS` is not looked for. In scripts without spaces, two characters count as a word.

    Returns:
        Origin of each such row -> the task of the first item found in it.
    """
    grams: dict[int, dict[_Gram, str]] = {}
    for task, texts in evaluation_texts.items():
        for gram in chain.from_iterable(_runs(words(text), ngram) for text in texts):
            grams.setdefault(len(gram), {}).setdefault(gram, task)
    starts = {gram[:FEWEST_WORDS] for by_gram in grams.values() for gram in by_gram}
    found = {}
    for conversation in conversations:
        row = words("\n".join(text_of(message) for message in conversation.messages))
        match = _first_match(row, grams, starts)
        if match is not None:
            found[conversation.origin] = match
    return found


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


def _first_match(row: Sequence[str], grams: Mapping[int, Mapping[_Gram, str]], starts: set[_Gram]) -> str | None:
    shortest = min(grams, default=0)
    # Nearly every place is ruled out by its first words alone, before any longer run is cut out of the row.
    head = min(FEWEST_WORDS, shortest)
    for start in range(len(row) - shortest + 1 if grams else 0):
        if tuple(row[start : start + FEWEST_WORDS]) not in starts and head == FEWEST_WORDS:
            continue
        for length, by_gram in grams.items():
            task = by_gram.get(tuple(row[start : start + length]))
            if task is not None:
                return task
    return None
