"""Invented pairs in the thirty subcases of HANS, so that the folder runs as it is.

A subcase is a kind of sentence: which ones there are, and whether their second sentence follows, is from McCoy et al.
2019, arXiv:1902.01007. All words here are our own.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

PEOPLE = ("baker", "nurse", "painter", "sailor", "teacher", "farmer", "singer", "waiter", "dentist", "miller")
MET = ("thanked", "called", "helped", "followed", "greeted", "praised", "blamed", "hired")
DID = ("slept", "laughed", "left", "waited", "sang", "frowned")
PLACES = ("garden", "harbour", "kitchen", "tower", "bakery")
NEAR = ("near", "beside", "behind", "opposite")
HEURISTICS = {"l": "lexical_overlap", "s": "subsequence", "c": "constituent"}
# Premise and second sentence: {a} to {c} are people, {met} and {saw} what one does to another, {did} what one does.
# A subcase's first letter is its heuristic's; its second is e where the second sentence follows, n where it does not.
SUBCASES = {
    "le_around_prepositional_phrase": [("The {a} {near} the {b} {met} the {c} .", "The {a} {met} the {c} .")],
    "le_around_relative_clause": [("The {a} that the {b} {saw} {met} the {c} .", "The {a} {met} the {c} .")],
    "le_conjunction": [("The {a} and the {b} {met} the {c} .", "The {a} {met} the {c} .")],
    "le_passive": [("The {a} was {met} by the {b} .", "The {b} {met} the {a} .")],
    "le_relative_clause": [("The {a} {met} the {b} that the {c} {saw} .", "The {c} {saw} the {b} .")],
    "ln_conjunction": [("The {a} and the {b} {met} the {c} .", "The {a} {met} the {b} .")],
    "ln_passive": [("The {a} was {met} by the {b} .", "The {a} {met} the {b} .")],
    "ln_preposition": [("The {a} {near} the {b} {met} the {c} .", "The {c} {met} the {b} .")],
    "ln_relative_clause": [("The {a} that the {b} {saw} {met} the {c} .", "The {c} {met} the {a} .")],
    "ln_subject_object_swap": [("The {a} {met} the {b} .", "The {b} {met} the {a} .")],
    "se_PP_on_obj": [("The {a} {met} the {b} {near} the {c} .", "The {a} {met} the {b} .")],
    "se_adjective": [("Old {a}s {met} the {b} .", "{A}s {met} the {b} .")],
    "se_conjunction": [("The {a} and the {b} {did} .", "The {b} {did} .")],
    "se_relative_clause_on_obj": [("The {a} {met} the {b} that {did} .", "The {a} {met} the {b} .")],
    "se_understood_object": [
        ("The {a} drew the {place} .", "The {a} drew ."),
        ("The {a} sang the song of the {b} .", "The {a} sang ."),
        ("The {a} ate the soup of the {b} .", "The {a} ate ."),
    ],
    "sn_NP_S": [
        ("The {a} heard the {b} {met} the {c} .", "The {a} heard the {b} ."),
        ("The {a} believed the {b} {did} .", "The {a} believed the {b} ."),
    ],
    "sn_NP_Z": [
        ("While the {a} sang the {b} {did} .", "The {a} sang the {b} ."),
        ("Before the {a} left the {b} {met} the {c} .", "The {a} left the {b} ."),
    ],
    "sn_PP_on_subject": [("The {a} {near} the {b} {met} the {c} .", "The {b} {met} the {c} .")],
    "sn_past_participle": [("The {a} {met} the {b} left in the {place} .", "The {b} left in the {place} .")],
    "sn_relative_clause_on_subject": [("The {a} that {met} the {b} {did} .", "The {b} {did} .")],
    "ce_adverb": [("Luckily the {a} {met} the {b} .", "The {a} {met} the {b} .")],
    "ce_after_since_clause": [("Since the {a} {did} , the {b} {met} the {c} .", "The {b} {met} the {c} .")],
    "ce_conjunction": [("The {a} {did} , and the {b} {met} the {c} .", "The {b} {met} the {c} .")],
    "ce_embedded_under_since": [("Since the {a} {did} , the {b} {met} the {c} .", "The {a} {did} .")],
    "ce_embedded_under_verb": [("The {a} knew that the {b} {met} the {c} .", "The {b} {met} the {c} .")],
    "cn_adverb": [("Perhaps the {a} {met} the {b} .", "The {a} {met} the {b} .")],
    "cn_after_if_clause": [("If the {a} {did} , the {b} {met} the {c} .", "The {b} {met} the {c} .")],
    "cn_disjunction": [("The {a} {did} , or the {b} {met} the {c} .", "The {b} {met} the {c} .")],
    "cn_embedded_under_if": [("If the {a} {did} , the {b} {met} the {c} .", "The {a} {did} .")],
    "cn_embedded_under_verb": [("The {a} hoped that the {b} {met} the {c} .", "The {b} {met} the {c} .")],
}


def pairs(each: int = 16) -> Iterator[dict[str, object]]:
    """So many different pairs of each subcase, in HANS's columns."""
    for subcase, templates in SUBCASES.items():
        drawn, found = random.Random(subcase), set[tuple[str, str]]()
        while len(found) < each:
            pair = _pair(drawn, *templates[len(found) % len(templates)])
            if pair in found:
                continue
            found.add(pair)
            label = "entailment" if subcase[1] == "e" else "non-entailment"
            premise, hypothesis = pair
            named = {"heuristic": HEURISTICS[subcase[0]], "subcase": subcase}
            yield {"premise": premise, "hypothesis": hypothesis, "label": label, **named}


def _pair(drawn: random.Random, premise: str, hypothesis: str) -> tuple[str, str]:
    (a, b, c), (met, saw) = drawn.sample(PEOPLE, 3), drawn.sample(MET, 2)
    words = {"a": a, "A": a.capitalize(), "b": b, "c": c, "met": met, "saw": saw}
    words |= {"did": drawn.choice(DID), "place": drawn.choice(PLACES), "near": drawn.choice(NEAR)}
    return premise.format(**words), hypothesis.format(**words)
