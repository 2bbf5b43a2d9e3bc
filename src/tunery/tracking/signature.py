"""What a logged model takes: chat requests as OpenAI's clients send them, or a table of prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

EXAMPLE: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello!"}]}

# Greedy unless asked otherwise: the same question gets the same answer. 0 tokens stands for the model's own limit:
# MLflow knows no optional number.
DEFAULTS: dict[str, Any] = {
    "max_tokens": 0, "max_completion_tokens": 0, "temperature": 0.0, "top_p": 1.0, "seed": 0, "stop": []
}  # fmt: skip


def signature() -> ModelSignature:
    """Input columns `messages`, `prompt` and `completion`, and the request's settings as params.

    The messages follow MLflow's ChatModel, so that `mlflow models serve` takes {"messages": [...], "max_tokens": 64}.
    A column of prompts gives answers; prompts with a column of completions give log-likelihoods.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.llm import CHAT_MODEL_INPUT_SCHEMA

    messages = next(column for column in CHAT_MODEL_INPUT_SCHEMA.inputs if column.name == "messages")
    inputs = Schema(
        [
            ColSpec(name="messages", type=messages.type, required=False),
            ColSpec(name="prompt", type=DataType.string, required=False),
            ColSpec(name="completion", type=DataType.string, required=False),
        ]
    )
    kinds = {
        "max_tokens": DataType.long,
        "max_completion_tokens": DataType.long,  # what OpenAI's newer clients call it
        "temperature": DataType.double,
        "top_p": DataType.double,
        "seed": DataType.long,
    }
    params = [ParamSpec(name, kind, DEFAULTS[name]) for name, kind in kinds.items()]
    params.append(ParamSpec("stop", DataType.string, DEFAULTS["stop"], shape=(-1,)))
    return ModelSignature(inputs=inputs, params=ParamSchema(params))
