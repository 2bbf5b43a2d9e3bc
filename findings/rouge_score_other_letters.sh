#!/usr/bin/env bash
# rouge-score 0.1.2: ROUGE of text with letters other than a to z.
#
# One would guess: two equal texts have ROUGE 1, and two different words share nothing.
# What happens: every character that is not a to z or 0 to 9 is a space to the tokenizer. Equal answers in Russian or
# Japanese score 0. German words are cut at umlauts and their pieces count as words: Größe and Maße, two different
# words, score 0.5. There is no warning.
# Why it matters: the ROUGE of a model for another language is 0, or a number that looks sound and counts pieces of
# words. A tokenizer of one's own has to be handed over.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile rouge-score==0.1.2
cd "$folder"

"$folder/venv/bin/python" - <<'PY'
from rouge_score.rouge_scorer import RougeScorer

scorer = RougeScorer(["rouge1", "rougeL"])


def scores(reference, answer, by=scorer):
    found = {kind: round(score.fmeasure, 3) for kind, score in by.score(reference, answer).items()}
    print(f"{reference!r} and {answer!r}: {found}")
    return found["rouge1"], found["rougeL"]


class Words:
    def tokenize(self, text):
        return text.lower().split()


assert scores("Москва - столица", "Москва - столица") == (0, 0)
assert scores("東京", "東京") == (0, 0)
assert scores("Größe", "Maße") == (0.5, 0.5)
own = RougeScorer(["rouge1", "rougeL"], tokenizer=Words())
assert scores("Москва столица", "Москва столица", own) == (1, 1)
assert scores("Größe", "Maße", own) == (0, 0)
PY
