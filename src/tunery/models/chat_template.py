"""The chat template of a base: its own, a file's, or ChatML, with tokens that can be learned.

Source: ChatML, https://github.com/openai/openai-python/blob/v0.28.1/chatml.md
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunery.config.model import BaseConfig
from tunery.errors import BaseModelError, ConfigError, Fault
from tunery.models.template_settings import fix_settings

TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"

# The assistant's text and end token are inside {% generation %}, which loss_on: assistant reads.
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}"
    "{{ '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ADDED = "added ChatML"
_PADS = ("<pad>", "<|pad|>", "[PAD]", "<|finetune_right_pad_id|>", "<unk>", "[UNK]")


@dataclass(frozen=True)
class ChatTemplate:
    """What became of the template."""

    name: str  # "own", "added ChatML", "none", or the file's name
    new_token_ids: tuple[int, ...] = ()  # ids whose embedding rows are untrained and must be learned
    notes: tuple[str, ...] = ()  # sentences for a person


def settle_template(model: Any, tokenizer: Any, base: BaseConfig, folder: Path, chat: bool) -> ChatTemplate:
    """Give tokenizer and model the template that the project asks for, and a padding token.

    Args:
        model: The loaded base; its embeddings grow when tokens are added.
        tokenizer: Changed in place.
        chat: Whether conversations are rendered with a template (data.template is chat).

    Raises:
        ConfigError: If the file that base.chat_template names is not there, is no text or is not Jinja, or the template
            does not read one of base.chat_template_arguments.
        BaseModelError: If the base's own template is not Jinja.
    """
    template = settle_tokenizer(tokenizer, base, folder, chat)
    _initialise_rows(model, len(tokenizer), template.new_token_ids)
    config, generation = model.config.get_text_config(), model.generation_config
    if template.name == ADDED:
        end = int(tokenizer.convert_tokens_to_ids(TURN_END))
        known = generation.eos_token_id if isinstance(generation.eos_token_id, list) else [generation.eos_token_id]
        generation.eos_token_id = [end, *(token for token in known if token not in (end, None))]
        config.eos_token_id = end
    config.pad_token_id = generation.pad_token_id = tokenizer.pad_token_id
    return template


def settle_tokenizer(tokenizer: Any, base: BaseConfig, folder: Path, chat: bool) -> ChatTemplate:
    """The tokenizer's half of `settle_template`, for those who need no model."""
    template = _settle_text(tokenizer, base, folder, chat)
    return replace(template, notes=(*template.notes, *fix_settings(tokenizer, base)))


def _settle_text(tokenizer: Any, base: BaseConfig, folder: Path, chat: bool) -> ChatTemplate:
    notes = _settle_padding(tokenizer)
    if base.chat_template is not None:
        tokenizer.chat_template = _read_template(base.chat_template, folder)
        _check_grammar(tokenizer, base)
        return ChatTemplate(Path(base.chat_template).name, (), (*notes, f"chat template from {base.chat_template}"))
    if tokenizer.chat_template:
        _check_grammar(tokenizer, base)
        return ChatTemplate("own", (), notes)
    if not chat:
        return ChatTemplate("none", (), notes)
    added = _add_chatml(tokenizer)
    learned = f"; the rows of {len(added)} new tokens are learned" if added else ""
    return ChatTemplate(ADDED, added, (*notes, f"the base has no chat template: added ChatML{learned}"))


def template_hash(tokenizer: Any) -> str:
    """sha256 of the template that the tokenizer has now; a file may change and keep its name."""
    return hashlib.sha256(json.dumps(tokenizer.chat_template, sort_keys=True).encode()).hexdigest()


def _add_chatml(tokenizer: Any) -> tuple[int, ...]:
    known = tokenizer.get_vocab()
    new = [token for token in (TURN_START, TURN_END) if token not in known]
    if new:
        tokenizer.add_special_tokens({"additional_special_tokens": new}, replace_extra_special_tokens=False)
    tokenizer.chat_template = CHATML
    tokenizer.eos_token = TURN_END
    return tuple(int(tokenizer.convert_tokens_to_ids(token)) for token in new)


def _initialise_rows(model: Any, vocabulary: int, ids: tuple[int, ...]) -> None:
    """Grow the embeddings if they must, and start the new rows at the mean of those that were trained."""
    import torch

    if not ids:
        return
    trained = min(ids)
    if model.get_input_embeddings().weight.shape[0] < vocabulary:
        model.resize_token_embeddings(vocabulary, mean_resizing=False)
    with torch.no_grad():
        for module in filter(None, (model.get_input_embeddings(), model.get_output_embeddings())):
            weight = module.weight  # where both are one matrix, its trained rows give the same mean twice
            weight[list(ids)] = weight[:trained].float().mean(dim=0).to(weight.dtype)


def _settle_padding(tokenizer: Any) -> tuple[str, ...]:
    # Labels are -100 and the attention mask is 0 by position, never by id: padding with the end token hides no end.
    if tokenizer.pad_token_id is not None:
        return ()
    known = tokenizer.get_vocab()
    tokenizer.pad_token = next((token for token in _PADS if token in known), tokenizer.eos_token)
    return (f"the tokenizer has no padding token: {tokenizer.pad_token} is used, masked by position",)


def _check_grammar(tokenizer: Any, base: BaseConfig) -> None:
    """Render one turn, which compiles the template.

    Other errors than those of grammar are no fault: a template may refuse a conversation without a system turn.
    """
    from jinja2 import TemplateError, TemplateSyntaxError

    try:
        tokenizer.apply_chat_template([{"role": "user", "content": "?"}], tokenize=False)
    except TemplateSyntaxError as error:
        wrong = f"line {error.lineno}: {str(error.message).rstrip('.')}"
        if base.chat_template is None:
            advice = "Name another file in base.chat_template."
            raise BaseModelError(base.model, f"its chat template is not valid Jinja ({wrong}). {advice}") from error
        fault = Fault("base.chat_template", f"a valid Jinja file ({wrong})", base.chat_template)
        raise ConfigError(base.model, fault) from error
    except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError):
        return


def _read_template(name: str, folder: Path) -> str:
    try:
        for place in (folder / name, Path.cwd() / name):
            if place.is_file():
                return place.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fault = Fault("base.chat_template", f"a file of UTF-8 text that can be read: {error}", name)
        raise ConfigError(str(folder), fault) from error
    rule = "a Jinja file beside project.yaml or in the working folder"
    raise ConfigError(str(folder), Fault("base.chat_template", rule, name, "Leave it out to use the model's own."))
