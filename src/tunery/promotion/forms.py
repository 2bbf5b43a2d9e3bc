"""A candidate in the three forms it can be used in, each asked the same locked items, in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tunery.config.promotion import Form
from tunery.promotion.evidence import FormScore
from tunery.promotion.forms_process import FormAnswers, FormJob, follow, score_trained, score_unquantised
from tunery.records import TaskResult
from tunery.statistics.paired import Results, compare_scores

if TYPE_CHECKING:
    from tunery.tracking.flavor.flavor import ModelFacts

FORMS: tuple[Form, ...] = ("trained", "adapter", "merged")
_DIED = "its process was killed, most likely because memory ran out"


class Asking:
    """A fresh process that loads and scores models, one after the other; a context manager.

    A process that dies takes the form that it was scoring with it, and no other: the next gets a new one.
    """

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._line.close()  # ends the process now: nobody waits for what it still scores
        self._pool.shutdown(cancel_futures=True)
        self._line.close()

    def trained(self, job: FormJob, *, with_base: bool) -> FormAnswers:
        """Score a model as it was trained, and its base if wanted."""
        return self._run(("trained",), score_trained, job, with_base)

    def others(self, job: FormJob, trained: FormAnswers, facts: ModelFacts, *, with_base: bool) -> FormAnswers:
        """Score the forms that are not the one that was trained, and the base in 16 bits if wanted.

        What is the same as the form that was trained, or the base below it, is not scored again.
        """
        if facts.method == "full":
            return FormAnswers()
        same = facts.identity.quantization == "none" and facts.identity.dtype in ("bfloat16", "float16")
        forms: tuple[Form, ...] = ("merged",) if same else ("adapter", "merged")
        answers = self._run(forms, score_unquantised, job, forms, with_base and not same)
        known: dict[Form, Results] = {"adapter": trained.results["trained"]} if same else {}
        return replace(answers, results={**known, **answers.results})

    def one(self, job: FormJob, form: Form, facts: ModelFacts) -> FormAnswers:
        """Score a model in one form; where every weight was trained there is only one."""
        if form == "trained" or facts.method == "full":
            trained = self.trained(job, with_base=False)
            fault = trained.faults.get("trained")
            return (
                FormAnswers({form: trained.results["trained"]}) if fault is None else FormAnswers(faults={form: fault})
            )
        return self._run((form,), score_unquantised, job, (form,))

    def _run(self, forms: tuple[Form, ...], work: Callable[..., FormAnswers], *arguments: object) -> FormAnswers:
        try:
            return self._pool.submit(work, *arguments).result()
        except BrokenProcessPool:
            self._line.close()
            self._begin()
            return FormAnswers(faults=dict.fromkeys(forms, _DIED))

    def _begin(self) -> None:
        import multiprocessing

        spawn = multiprocessing.get_context("spawn")  # a fork would hold what this process has loaded
        theirs, self._line = spawn.Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(max_workers=1, mp_context=spawn, initializer=follow, initargs=(theirs,))


def form_scores(answers: FormAnswers, primary: Mapping[str, str], confidence: float) -> dict[Form, FormScore]:
    """Score and drift of every form, against the one that was trained."""
    trained = answers.results["trained"]
    found: dict[Form, FormScore] = {}
    for form in FORMS:
        if form in answers.results:
            found[form] = _form_score(trained, answers.results[form], primary, confidence)
        elif form in answers.faults:
            found[form] = FormScore(None, fault=answers.faults[form])
    return found


def _form_score(trained: Results, results: Results, primary: Mapping[str, str], confidence: float) -> FormScore:
    difference = compare_scores([trained], [results], primary, confidence)
    if difference is None:
        return FormScore(None, fault="its score is no mean over items")
    logs = [_farthest(trained[task], results[task]) for task in primary]
    known = [value for value in logs if value is not None]
    return FormScore(
        score=difference.score,
        drift=difference.value,
        items=difference.items,
        changed=difference.changed,
        loglikelihood=max(known, default=None),
    )


def _farthest(one: TaskResult, other: TaskResult) -> float | None:
    """Largest difference of a log-likelihood over the items that both answered, in nats."""
    sides = [
        result.samples.drop_duplicates("item_id").set_index("item_id")["loglikelihoods"] for result in (one, other)
    ]
    pairs = sides[0].to_frame("one").join(sides[1].rename("other"), how="inner")
    gaps = [abs(a - b) for left, right in pairs.itertuples(index=False) for a, b in zip(left, right, strict=False)]
    return float(max(gaps)) if gaps else None
