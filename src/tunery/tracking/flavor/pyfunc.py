"""The loader that MLmodel names: a logged adapter as an MLflow Python model that answers chat requests."""

from __future__ import annotations

import math
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from tunery.data.layouts.fields import UnusableRow
from tunery.data.layouts.messages import read_turns
from tunery.errors import DataError, Fault
from tunery.records.rows import Message
from tunery.tracking.flavor.flavor import ANSWER_TOKENS, DEFAULTS
from tunery.tracking.flavor.rebuild import Rebuilt, rebuild

if TYPE_CHECKING:
    import pandas as pd

_BATCH = 8
_ROLES = ("system", "developer", "user", "assistant", "tool")


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> ServedModel:
    """MLflow calls this by name, with the folder, and `device`, `base_folder` and `max_tokens` as its user set them."""
    settings = model_config or {}
    rebuilt = rebuild(Path(path), settings.get("device") or "auto", settings.get("base_folder") or None)
    return ServedModel(rebuilt, int(settings.get("max_tokens") or ANSWER_TOKENS))


def check_room(model: Any, prompt: int, answer: int, where: str, advice: str) -> None:
    """Raise DataError where the tokens of a prompt and its longest answer exceed a model's context."""
    room = _context(model)
    if prompt + answer > room:
        rule = f"at most {room} tokens, the model's context, with the {answer} of the answer"
        raise DataError(where, Fault("its length", rule, prompt, advice))


def _context(model: Any) -> float:
    """Tokens of prompt and answer that a model takes; infinite where its configuration does not say."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None) or math.inf


class ServedModel:
    """Answers and log-likelihoods of a rebuilt model."""

    def __init__(self, rebuilt: Rebuilt, max_tokens: int = ANSWER_TOKENS) -> None:
        """`max_tokens` is the longest answer to a request that asks for no length."""
        self.rebuilt, self._max_tokens = rebuilt, max_tokens
        self._model, self._tokenizer, self._facts = rebuilt.model, rebuilt.loaded.tokenizer, rebuilt.facts
        self._encoded: dict[Any, Any] = {}
        # MLflow's server asks from many threads: the seed is torch's own, and an answer would draw from another's.
        self._lock = Lock()

    def get_raw_model(self) -> Any:
        """The transformers or PEFT model itself."""
        return self._model

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> Any:
        """Answer what each row asks for.

        Args:
            model_input: Column `messages` (lists of {"role", "content"}), or `prompt` (one user message each), or
                `prompt` and `completion`. A row may hold settings of its own, by the names of `params`.
            params: max_tokens or max_completion_tokens, temperature (0: greedy), top_p, seed, stop (a list:
                MLflow's server refuses a single text).

        Returns:
            For one row of messages an OpenAI chat completion, for several a list of them; for prompts a list of
            answers; for prompts with completions a list of log-likelihoods of the completion in nats.

        Raises:
            MlflowException: If the columns are others, a conversation has no turn or a role that there is not, or it
                and its answer are longer than the model's context.
        """
        from mlflow.exceptions import MlflowException

        with self._lock:
            try:
                return self._predict(model_input, _settings(model_input, params or {}))
            except DataError as error:
                # MLflow's server answers any other class with a stack trace, in place of the reason.
                raise MlflowException.invalid_parameter_value(str(error)) from error

    def _predict(self, model_input: pd.DataFrame, settings: Sequence[Mapping[str, Any]]) -> Any:
        columns = set(model_input.columns)
        if {"prompt", "completion"} <= columns:
            pairs = zip(model_input["prompt"], model_input["completion"], strict=True)
            return self.loglikelihoods([(str(before), str(after)) for before, after in pairs])
        if "messages" in columns:
            conversations = [_messages(row) for row in model_input["messages"]]
            replies = [
                self._reply(talk, answer, longest)
                for part, own in _alike(conversations, settings)
                for longest in [self._longest(part, own)]
                for talk, answer in zip(part, self.answer(part, own), strict=True)
            ]
            return replies[0] if len(replies) == 1 else replies
        if "prompt" in columns:
            prompts = [[Message("user", str(prompt))] for prompt in model_input["prompt"]]
            return [answer for part, own in _alike(prompts, settings) for answer in self.answer(part, own)]
        advice = "Send {'messages': [{'role': 'user', 'content': '...'}]}."
        raise DataError("the request", Fault("the columns", "messages, or prompt", sorted(columns), advice))

    def answer(self, conversations: Sequence[Sequence[Message]], settings: Mapping[str, Any]) -> list[str]:
        """The assistant's next turn of each conversation."""
        longest = self._longest(conversations, settings)
        if float(settings["temperature"]) > 0:
            answers = [self._sample(talk, longest, settings) for talk in conversations]
        else:
            from tunery.evaluation.generate import generate

            answers = generate(self._model, self._tokenizer, conversations, longest, _BATCH, self._facts.template)
        stops = [settings["stop"]] if isinstance(settings["stop"], str) else settings["stop"]
        for stop in filter(None, stops):  # an empty text ends nothing
            answers = [answer.split(stop, 1)[0] for answer in answers]
        return answers

    def loglikelihoods(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Sum of log p over the tokens of each pair's second text, in nats, as lm-eval scores it; no chat template."""
        from tunery.evaluation.eval_mode import undisturbed
        from tunery.evaluation.lm import Scorer

        with undisturbed(self._model):
            return Scorer(self._model, self._tokenizer, _BATCH, self._encoded, chat_template=False).of_pairs(pairs)

    def _sample(self, talk: Sequence[Message], longest: int, settings: Mapping[str, Any]) -> str:
        import torch

        from tunery.evaluation.eval_mode import undisturbed
        from tunery.evaluation.generate import NO_RULES, stop_ids

        ids = torch.tensor([self._prompt_ids(talk)], device=self._model.device)
        with undisturbed(self._model):
            torch.manual_seed(int(settings["seed"]))
            asked = {"temperature": float(settings["temperature"]), "top_p": float(settings["top_p"])}
            output = self._model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=longest, do_sample=True,
                eos_token_id=stop_ids(self._model, self._tokenizer), pad_token_id=self._tokenizer.pad_token_id,
                **{**NO_RULES, **asked},
            )  # fmt: skip
        return str(self._tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True))

    def _prompt_ids(self, talk: Sequence[Message]) -> list[int]:
        from tunery.evaluation.generate import encode_prompts

        return encode_prompts(self._tokenizer, [talk], self._facts.template)[0]

    def _longest(self, conversations: Sequence[Sequence[Message]], settings: Mapping[str, Any]) -> int:
        """Tokens of an answer at most: as asked, else the default as far as the context has room for it."""
        asked = int(settings["max_completion_tokens"] or settings["max_tokens"])
        if asked < 0:
            raise DataError("the request", Fault("max_tokens", "0, for the default length, or more", asked))
        prompt = max((len(self._prompt_ids(talk)) for talk in conversations), default=0)
        check_room(self._model, prompt, asked or 1, "the request", "Ask less, or set max_tokens.")
        return asked or int(min(self._max_tokens, _context(self._model) - prompt))

    def _reply(self, talk: Sequence[Message], answer: str, longest: int) -> dict[str, Any]:
        """An OpenAI chat completion. Tokens are counted on the text, without the token that ended it."""
        asked, said = len(self._prompt_ids(talk)), len(self._tokenizer.encode(answer, add_special_tokens=False))
        said = min(said, longest)  # half a character reads back as more tokens than it was
        reason = "length" if said >= longest else "stop"
        return {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self.rebuilt.model_id,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": reason}],
            "usage": {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said},
        }


def _settings(model_input: pd.DataFrame, params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each row's settings: its own where it has any, else the request's, else the defaults."""
    named = [name for name in DEFAULTS if name in model_input]
    rows = model_input[named].to_dict("records") if named else [{}] * len(model_input)
    return [
        {**DEFAULTS, **params, **{str(key): value for key, value in row.items() if not _is_empty(value)}}
        for row in rows
    ]


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _alike(
    conversations: Sequence[Sequence[Message]], settings: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[list[Sequence[Message]], Mapping[str, Any]]]:
    """Neighbours with equal settings together: they are answered in batches."""
    for _, group in groupby(zip(conversations, settings, strict=True), key=lambda pair: repr(pair[1])):
        pairs = list(group)
        yield [talk for talk, _ in pairs], pairs[0][1]


def _messages(row: Any) -> list[Message]:
    """A request's turns, read as rows of training are: calls of tools and reasoning reach the prompt."""
    turns = [{key: _as_list(value) for key, value in turn.items()} for turn in row]
    if not turns:
        raise DataError("the request", Fault("messages", "at least one turn", [], "The last one is the question."))
    for turn in turns:
        if turn.get("role") not in _ROLES:
            raise DataError("the request", Fault("role", f"one of {', '.join(_ROLES)}", turn.get("role")))
    try:
        return list(read_turns(turns, Counter()))
    except UnusableRow as error:
        raise DataError(
            "the request", Fault(f"messages: {error}", advice="Send turns as training rows have them.")
        ) from error


def _as_list(value: Any) -> Any:
    """A pandas table that comes from parquet holds arrays."""
    return value.tolist() if hasattr(value, "tolist") else value
