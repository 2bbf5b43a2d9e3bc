"""Chat with the model in this folder, on a Hugging Face Space or locally.

Locally: `pip install -r requirements.txt`, then `python app.py`.

In space.json, `base` is the Hub model that model/ is an adapter for, or null if model/ is a whole model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import gradio as gr
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, TextIteratorStreamer

HERE = Path(__file__).parent
ABOUT: dict[str, Any] = json.loads((HERE / "space.json").read_text(encoding="utf-8"))
LONGEST = 2048  # tokens of an answer
BUSY = Lock()  # one answer at a time: all visitors share the model


def load() -> tuple[Any, Any]:
    """Load the model and its tokenizer, on a GPU if there is one."""
    folder, device = HERE / "model", "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if ABOUT["base"] is None:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    else:
        from peft import PeftModel

        model = AutoModelForCausalLM.from_pretrained(ABOUT["base"], revision=ABOUT["revision"], dtype="auto")
        if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
            model.resize_token_embeddings(len(tokenizer))  # the adapter has the rows of the added tokens
        model = PeftModel.from_pretrained(model, folder)
    return model.to(device).eval(), tokenizer


MODEL, TOKENIZER = load()
ENDS = MODEL.generation_config.eos_token_id  # an id, a list, or None
# An answer ends at a token of the chat template or of the generation config.
STOPS = sorted({*ABOUT["stop_ids"], *(ENDS if isinstance(ENDS, list) else [ENDS])} - {None})


def answer(
    message: str, history: list[dict[str, Any]], temperature: float, top_p: float, max_tokens: float
) -> Iterator[str]:
    """Yield the answer as it grows."""
    messages = [{"role": turn["role"], "content": _text(turn["content"])} for turn in history]
    ids = encode([*messages, {"role": "user", "content": message}])
    streamer = TextIteratorStreamer(TOKENIZER, skip_prompt=True, skip_special_tokens=True)
    drawing = (
        {"do_sample": True, "temperature": temperature, "top_p": top_p} if temperature > 0 else {"do_sample": False}
    )
    options = {
        **ids, **drawing, "streamer": streamer, "max_new_tokens": int(max_tokens), "eos_token_id": STOPS,
        "pad_token_id": TOKENIZER.pad_token_id, "repetition_penalty": 1.0,
    }  # fmt: skip
    failed: list[Exception] = []

    def write() -> None:
        try:
            MODEL.generate(**options)
        except Exception as error:  # noqa: BLE001 - raised below; without the end, the reader of the streamer would wait forever
            failed.append(error)
            streamer.end()

    with BUSY:
        writing = Thread(target=write)
        writing.start()
        said = ""
        for piece in streamer:
            said += piece
            yield said
        writing.join()
    if failed:
        raise gr.Error(str(failed[0]) or type(failed[0]).__name__)


def encode(messages: list[dict[str, str]]) -> dict[str, Any]:
    """Encode a conversation as in training."""
    if ABOUT["template"] == "plain":
        found = TOKENIZER("\n".join(turn["content"] for turn in messages), return_tensors="pt")
    else:
        found = TOKENIZER.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
    return {key: found[key].to(MODEL.device) for key in ("input_ids", "attention_mask")}


def _text(content: Any) -> str:
    """The text of a message, which Gradio keeps as a string or as a list of parts."""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


demo = gr.ChatInterface(
    answer,
    title=ABOUT["title"],
    description=ABOUT["description"],
    examples=[[question] for question in ABOUT["examples"]],
    cache_examples=False,
    api_name="chat",
    additional_inputs=[
        gr.Slider(0, 2, 0, step=0.05, label="Temperature (0 takes the likeliest token)"),
        gr.Slider(0.05, 1, 1, step=0.05, label="Top-p"),
        gr.Slider(1, LONGEST, min(ABOUT["max_tokens"], LONGEST), step=1, label="Max tokens of an answer"),
    ],
    analytics_enabled=False,
)

if __name__ == "__main__":
    demo.launch()
