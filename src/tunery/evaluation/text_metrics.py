"""How near written answers are to references, and whether they repeat themselves."""

from __future__ import annotations

import functools
import re
import string
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_REPEATED_NGRAM = 4
# A line that gives the word to somebody: "User: and then?", "### Human:", or a role's name alone.
_TURN = re.compile(r"^[#*<|\s]*(user|human|assistant)[*|>]*\s*(:|$)", re.IGNORECASE | re.MULTILINE)
# Chinese and Japanese put no spaces between words: each character counts as one.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")


def text_metrics(predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Metrics of generations, by the names that MLflow shows.

    Exact match normalises as SQuAD does: lower case, no ASCII punctuation, no articles, single spaces. ROUGE is the
    mean F1 over answers with stemming; BLEU and chrF are the corpus scores of sacrebleu over 100, so that all lie
    between 0 and 1. The repetition rate is the share of an answer's word 4-grams that it wrote before, mean over
    answers.

    Args:
        predictions: Answers, shape (prompts,).
        references: One reference for each, same order.

    Returns:
        `generation/exact_match`, `rouge1`, `rouge2`, `rougeL`, `bleu`, `chrf`, `mean_words`, `repetition_rate`; nothing
        for no answers.

    Raises:
        ValueError: If the lists differ in length.

    Source: SQuAD, arXiv:1606.05250; ROUGE, Lin 2004; sacrebleu, arXiv:1804.08771; chrF, Popović 2015; repetition as
        1 - (distinct n-grams / n-grams), the rep-n of Su et al., arXiv:2202.06417.
    """
    if len(predictions) != len(references):
        counts = f"{len(predictions)} predictions, but {len(references)} references"
        raise ValueError(f"{counts}: there must be one for each")
    if not predictions:
        return {}
    from sacrebleu.metrics.chrf import CHRF

    values = {
        "exact_match": fmean(normalise(p) == normalise(r) for p, r in zip(predictions, references, strict=True)),
        **_rouge(predictions, references),
        "bleu": corpus_bleu(list(zip(predictions, references, strict=True))),
        "chrf": CHRF().corpus_score(predictions, [references]).score / 100,
        "mean_words": fmean(len(prediction.split()) for prediction in predictions),
        "repetition_rate": fmean(repetition_rate(prediction) for prediction in predictions),
    }
    return {f"generation/{name}": float(value) for name, value in values.items()}


def of_answer(prediction: str, reference: str, names: Sequence[str]) -> dict[str, float]:
    """Metrics of one answer, by the names of `text_metrics` without `generation/`.

    BLEU is that of the sentence, with as many n-gram orders as it has words for; its mean is not the corpus score.
    """
    return {name: float(_OF_ANSWER[name](prediction, reference)) for name in names}


def corpus_bleu(pairs: Sequence[tuple[str, str]]) -> float:
    """sacrebleu's corpus BLEU over 100 of (prediction, reference) pairs."""
    from sacrebleu.metrics.bleu import BLEU

    predictions, references = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return float(BLEU().corpus_score(predictions, [references]).score / 100)


def _rouge_of(kind: str) -> Callable[[str, str], float]:
    return lambda prediction, reference: _rouge_scorer((kind,)).score(reference, prediction)[kind].fmeasure


def _sentence_bleu(prediction: str, reference: str) -> float:
    from sacrebleu.metrics.bleu import BLEU

    return float(BLEU(effective_order=True).sentence_score(prediction, [reference]).score / 100)


def _sentence_chrf(prediction: str, reference: str) -> float:
    from sacrebleu.metrics.chrf import CHRF

    return float(CHRF().sentence_score(prediction, [reference]).score / 100)


_OF_ANSWER: Mapping[str, Callable[[str, str], float]] = {
    "exact_match": lambda prediction, reference: normalise(prediction) == normalise(reference),
    **{kind: _rouge_of(kind) for kind in ("rouge1", "rouge2", "rougeL")},
    "bleu": _sentence_bleu,
    "chrf": _sentence_chrf,
    "repetition_rate": lambda prediction, _: repetition_rate(prediction),
}


def normalise(text: str) -> str:
    """Lower case, no ASCII punctuation, no English articles, single spaces: SQuAD's rule for an exact match."""
    without_articles = re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(_PUNCTUATION))
    return " ".join(without_articles.split())


def repetition_rate(text: str) -> float:
    """Share of word 4-grams that occurred before in the text; 0 for a text too short to have two."""
    words = text.split()
    ngrams = [tuple(words[start : start + _REPEATED_NGRAM]) for start in range(len(words) - _REPEATED_NGRAM + 1)]
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def both_sides(raw: str, stopped: bool, headers: Sequence[str]) -> bool:
    """Whether an answer goes on with the other side of the conversation.

    It does if it writes a header that its chat template writes before a turn, a line that gives the word to a user or
    an assistant ("User:", or the role's name alone), or does not end before the longest length.

    Args:
        raw: The answer with its special tokens, up to the one that ended it.
        stopped: Whether the model ended it by itself.
        headers: Of the chat template: "<|im_start|>user".
    """
    return not stopped or any(header in raw for header in headers) or _TURN.search(raw) is not None


def _rouge(predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    scorer = _rouge_scorer(("rouge1", "rouge2", "rougeL"))
    scored = list(map(scorer.score, references, predictions))
    return {kind: fmean(score[kind].fmeasure for score in scored) for kind in scorer.rouge_types}


@functools.lru_cache
def _rouge_scorer(kinds: tuple[str, ...]) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(kinds), tokenizer=_Words())


class _Words:
    """Words of every script, English ones stemmed: to rouge-score's own tokenizer all letters but a to z are spaces."""

    def tokenize(self, text: str) -> list[str]:
        """As rouge-score does, words of three letters at most keep their ending."""
        from nltk.stem.porter import PorterStemmer

        stem = PorterStemmer().stem
        words = _WORD.findall(text.lower())
        return [stem(word) if len(word) > 3 and word.isascii() else word for word in words]
