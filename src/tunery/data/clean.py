"""Cleaning steps: only those that the project declares, each counted, each dropped row named."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tunery.config.data import CleanConfig
from tunery.data.markup import strip_markup
from tunery.records.rows import Conversation, Drop, Message


@dataclass
class Cleaned:
    """What is left after cleaning."""

    conversations: list[Conversation]  # rows that are kept, in order
    drops: list[Drop] = field(default_factory=list)  # rows that are not, with the reason
    # Rows that each step altered, by the step's name in the config.
    changed: dict[str, int] = field(default_factory=dict)


def clean(
    conversations: Sequence[Conversation],
    config: CleanConfig,
    filled: Collection[int] = (),
    altered: Mapping[str, Collection[str]] | None = None,
) -> Cleaned:
    """Take the declared steps: markup, characters, lengths, then duplicates of what is left; the first stays.

    Args:
        conversations: Rows.
        config: The section data.clean.
        filled: Sources, by number, whose prompts a template was filled for from cleaned columns: left as they are.
        altered: Origins of rows that each step altered there, counted with those that it alters here.
    """
    result = Cleaned(list(conversations))
    for step, edit in rewriting(config).items():
        _rewrite(result, step, edit, filled, (altered or {}).get(step, ()))
    _filter(result, ((each, _length_fault(each, config)) for each in result.conversations))
    if config.deduplicate == "exact":
        _filter(result, _exact_duplicates(result.conversations))
    elif config.deduplicate == "near":
        _filter(result, _near_duplicates(result.conversations, config.near_threshold))
    return result


def rewriting(config: CleanConfig) -> dict[str, Callable[[str], str]]:
    """The steps that change texts, by their names in the config, in order."""
    steps: dict[str, Callable[[str], str]] = {"strip_markup": strip_markup} if config.strip_markup else {}
    if config.keep is not None:
        unwanted = re.compile(f"[^{config.keep}]")
        steps["keep"] = lambda text: unwanted.sub("", text)
    return steps


def cleaned_text(text: str, config: CleanConfig) -> str:
    """A text after every step that changes texts."""
    for edit in rewriting(config).values():
        text = edit(text)
    return text


def rewritten(message: Message, edit: Callable[[str], str]) -> Message:
    """A message with its texts edited."""
    return replace(message, content=edit(message.content), reasoning=edit(message.reasoning))


def folded_text(conversation: Conversation) -> str:
    """The text by which two rows are the same: roles, all that is said, and tools, case and white space folded."""
    said = [f"{message.role}: {' '.join(text_of(message).split()).casefold()}" for message in conversation.messages]
    return "\n".join([*said, *filter(None, [" ".join(conversation.tools.split()).casefold()])])


def text_of(message: Message) -> str:
    """All that a message says: reasoning, content, calls of tools."""
    return "\n".join(filter(None, [message.reasoning, message.content, *message.tool_calls]))


def _rewrite(
    result: Cleaned, step: str, edit: Callable[[str], str], filled: Collection[int], altered: Collection[str]
) -> None:
    judged: list[tuple[Conversation, str | None]] = []
    result.changed[step] = 0
    for before in result.conversations:
        spared = filled_prompt(before.messages) if before.source in filled else None
        messages = tuple(message if message is spared else rewritten(message, edit) for message in before.messages)
        result.changed[step] += messages != before.messages or before.origin in altered
        blank = next((each.role for each in messages if not each.content.strip() and not each.tool_calls), None)
        fault = f"nothing left of a turn of {blank} after {step}" if blank else None
        judged.append((replace(before, messages=messages), fault))
    _filter(result, judged)


def filled_prompt(messages: Sequence[Message]) -> Message | None:
    """The turn that a prompt template was filled for: the first of the user."""
    return next((message for message in messages if message.role == "user"), None)


def _filter(result: Cleaned, judged: Iterable[tuple[Conversation, str | None]]) -> None:
    """Keep the conversations without a reason against them, and name the others."""
    kept: list[Conversation] = []
    for conversation, reason in judged:
        if reason is None:
            kept.append(conversation)
        else:
            result.drops.append(Drop(conversation.origin, reason))
    result.conversations = kept


def _length_fault(conversation: Conversation, config: CleanConfig) -> str | None:
    characters = sum(len(text_of(message)) for message in conversation.messages)
    if characters < config.min_characters:
        return f"{characters} characters, under clean.min_characters"
    if config.max_characters is not None and characters > config.max_characters:
        return f"{characters} characters, over clean.max_characters"
    return None


def _exact_duplicates(conversations: Sequence[Conversation]) -> Iterable[tuple[Conversation, str | None]]:
    first: dict[str, str] = {}
    for conversation in conversations:
        origin = first.setdefault(folded_text(conversation), conversation.origin)
        yield conversation, None if origin is conversation.origin else f"duplicate of {origin}"


def _near_duplicates(
    conversations: Sequence[Conversation], threshold: float
) -> Iterable[tuple[Conversation, str | None]]:
    """Rows whose word 5-grams overlap with an earlier kept row's by at least `threshold` (Jaccard).

    MinHash only proposes pairs; the similarity itself is then counted exactly. The index is asked at nine tenths of the
    threshold, since its estimate has a standard error near 0.05 and would else miss pairs just above.

    Source: Broder, "On the resemblance and containment of documents", 1997; Lee et al., arXiv:2107.06499.
    """
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=0.9 * threshold, num_perm=128, weights=(0.2, 0.8))
    shingles = [_shingles(conversation) for conversation in conversations]
    sketches = MinHash.bulk(([gram.encode() for gram in grams] for grams in shingles), num_perm=128, seed=1)
    for place, (conversation, sketch) in enumerate(zip(conversations, sketches, strict=True)):
        own = shingles[place]
        rivals = sorted(index.query(sketch))
        near = next((n for n in rivals if len(own & shingles[n]) / len(own | shingles[n]) >= threshold), None)
        if near is None:
            index.insert(place, sketch)
        yield conversation, None if near is None else f"near duplicate of {conversations[near].origin}"


def _shingles(conversation: Conversation) -> frozenset[str]:
    words = [word for message in conversation.messages for word in text_of(message).casefold().split()]
    return frozenset(" ".join(words[start : start + 5]) for start in range(max(len(words) - 5, 0) + 1))
