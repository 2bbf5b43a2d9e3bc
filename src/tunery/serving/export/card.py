"""The model card of an exported model: README.md with the front matter that the Hub reads. Pure.

Source: https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunery.reporting.text import plus_minus
from tunery.serving.export.card_scores import CardScore, ScoredOn

# A Hub id; a folder or builtin:tiny would make the front matter invalid.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_SCORED_ON: Mapping[ScoredOn, str] = {
    "all": "",
    "locked": " These are locked items, which no choice was based on.",
    "chosen": " The model was chosen on these items: expect lower scores on others.",
}
_SHOWN_SETTINGS = (
    "adapter.method", "adapter.rank", "adapter.alpha", "adapter.dropout", "adapter.target_modules", "adapter.dora",
    "adapter.rslora", "base.quantization", "data.max_length", "training.epochs", "training.max_steps",
    "training.learning_rate", "training.scheduler", "training.warmup_ratio", "training.micro_batch_size",
    "training.gradient_accumulation_steps", "training.seed",
)  # fmt: skip


@dataclass(frozen=True)
class CardFacts:
    """The contents of a card."""

    name: str
    form: str  # adapter or merged
    base: str
    revision: str
    license: str | None
    hub_base: bool  # whether the base is on the Hub
    full: bool = False  # whether every weight was trained
    scores: Sequence[CardScore] = ()
    data: Mapping[str, Any] = field(default_factory=dict)  # data/report.json of the run
    settings: Mapping[str, Any] = field(default_factory=dict)  # the resolved project, flattened
    lineage: Mapping[str, str] = field(default_factory=dict)  # run, version, commit, ...
    checks: Sequence[str] = ()  # sentences on how the merged model compares, or why vLLM cannot load the adapter
    vllm_rank: int | None = None  # the value for `--max-lora-rank`; None if vLLM cannot load the adapter
    weights: str = ""  # form of the base's weights in training and scoring: nf4, float32, ...
    chat_template: bool = True  # whether the folder has a chat_template.jinja
    scored_on: ScoredOn = "all"  # the items of `scores`: all, locked, or those that the model was chosen on
    new_tokens: bool = False  # whether the adapter holds rows of tokens that the base may have no room for


def model_card(facts: CardFacts) -> str:
    """README.md: how to use the model, its scores with their errors, data, settings, lineage."""
    parts = [_heading(facts), _use(facts), _scores(facts), _data(facts), _settings(facts), _lineage(facts)]
    return f"---\n{front_matter(facts)}---\n\n" + "\n".join(part for part in parts if part).rstrip() + "\n"


def front_matter(facts: CardFacts) -> str:
    """The YAML that the Hub reads: base_model, library_name, license, datasets, metrics, model-index."""
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="text-generation", dataset_type=score.task, dataset_name=score.task, metric_type=score.metric,
            metric_name=score.metric, metric_value=round(score.value, 4),
        )
        for score in facts.scores
        if facts.scored_on != "chosen"
    ]  # fmt: skip
    data = ModelCardData(
        base_model=facts.base if facts.hub_base else None,
        base_model_relation=None if not facts.hub_base else "adapter" if facts.form == "adapter" else "finetune",
        library_name="peft" if facts.form == "adapter" else "transformers",
        pipeline_tag="text-generation",
        license=facts.license or "unknown",
        datasets=_hub_datasets(facts) or None,
        metrics=sorted({score.metric for score in facts.scores}) or None,
        tags=["tunery", "lora"] if not facts.full else ["tunery"],
        model_name=facts.name if results else None,
        eval_results=results or None,
    )
    return f"{data.to_yaml(line_break=chr(10))}\n"


def is_hub_id(name: str) -> bool:
    """Whether a name could be a Hub repository: owner/name."""
    return _HUB_ID.fullmatch(name) is not None


def _hub_datasets(facts: CardFacts) -> list[str]:
    sources = [str(source.get("source", "")) for source in facts.data.get("sources", ())]
    return [
        source for source in dict.fromkeys(sources)
        if is_hub_id(source) and not re.search(r"\.(jsonl?|csv|parquet|xlsx)$", source)
    ]  # fmt: skip


def _heading(facts: CardFacts) -> str:
    base = f"[{facts.base}](https://huggingface.co/{facts.base})" if facts.hub_base else f"`{facts.base}`"
    what = f"{base}, fine-tuned in full" if facts.full else f"A LoRA adapter for {base}"
    form = "" if facts.full or facts.form == "adapter" else ", merged into it in 16 bit"
    checks = "".join(f"\n- {check}" for check in facts.checks)
    return f"# {facts.name}\n\n{what}{form}. Base revision: `{facts.revision}`.\n{checks}\n"


def _use(facts: CardFacts) -> str:
    if facts.form == "adapter":
        lines = _adapter_lines(facts)
    else:
        lines = [
            "from transformers import pipeline",
            "",
            'chat = pipeline("text-generation", ".", dtype="auto")',
            'chat([{"role": "user", "content": "..."}])',
        ]
    python = "\n".join(["```python", *lines, "```"])
    return f"## Use it\n\nIn this folder:\n\n{python}\n{_vllm(facts)}"


def _adapter_lines(facts: CardFacts) -> list[str]:
    pinned = f', revision="{facts.revision}"' if facts.hub_base else ""
    base = facts.base if facts.hub_base else "path/to/the/base"
    room = [
        "if len(tokenizer) > base.get_input_embeddings().num_embeddings:  # tokens that training added",
        "    base.resize_token_embeddings(len(tokenizer))",
    ]
    return [
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'tokenizer = AutoTokenizer.from_pretrained(".")',
        f'base = AutoModelForCausalLM.from_pretrained("{base}"{pinned}, dtype="auto")',
        *(room if facts.new_tokens else []),
        'model = PeftModel.from_pretrained(base, ".")',
    ]


def _vllm(facts: CardFacts) -> str:
    if facts.form != "adapter":
        return "\n```sh\nvllm serve .\n```\n"
    if facts.vllm_rank is None:
        return ""
    base = facts.base if facts.hub_base else "path/to/the/base"
    name = facts.name.split("/")[0]
    template = " \\\n  --chat-template chat_template.jinja" if facts.chat_template else ""
    options = f"--enable-lora --max-lora-rank {facts.vllm_rank} --lora-modules {name}=$PWD{template}"
    return f"\n```sh\nvllm serve {base} {options}\n```\n"


def _scores(facts: CardFacts) -> str:
    if not facts.scores:
        return ""
    heading = "## Scores on the items that the model was chosen on" if facts.scored_on == "chosen" else "## Scores"
    lines = [
        heading,
        "",
        "| task | metric | base | this model | difference |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    lines += [_score_row(score) for score in facts.scores]
    weights = f" The weights were in {facts.weights}, as in training." if facts.weights else ""
    paired = "; for the difference, it is paired by item. Both models answered the same items, through lm-eval."
    note = f"± is one standard error{paired if any(score.base is not None for score in facts.scores) else '.'}"
    return "\n".join([*lines, "", f"{note}{_SCORED_ON[facts.scored_on]}{weights}", ""])


def _score_row(score: CardScore) -> str:
    base, own = plus_minus(score.base, score.base_stderr), plus_minus(score.value, score.stderr)
    difference = None if score.base is None else score.value - score.base
    gained = plus_minus(difference, score.delta_stderr, sign=True)
    return f"| {score.task} | {score.metric} | {base} | {own} | {gained} |"


def _data(facts: CardFacts) -> str:
    sources = facts.data.get("sources", ())
    if not sources:
        return ""
    lines = ["## Training data", "", "| source | rows kept | rows read | digest |", "| --- | ---: | ---: | --- |"]
    lines += [
        f"| {_source(s['source'])} | {s['rows_kept']:,} | {s['rows_read']:,} | `{str(s['digest'])[:12]}` |"
        for s in sources
    ]
    overlap = len(facts.data.get("contaminated") or {})
    trained = (
        f"{facts.data.get('train_rows', 0):,} rows were trained on, {facts.data.get('validation_rows', 0):,} held out"
    )
    return "\n".join([*lines, "", f"{trained}; {overlap} of the rows read overlap with evaluation items.", ""])


def _source(name: str) -> str:
    """A dataset's public name: of a local file, without its folder."""
    return name.rpartition("/")[2] if name.startswith(("/", "~", ".")) else name


def _settings(facts: CardFacts) -> str:
    rows = [(key, facts.settings[key]) for key in _SHOWN_SETTINGS if facts.settings.get(key) is not None]
    if not rows:
        return ""
    lines = [
        "## Settings",
        "",
        "| setting | value |",
        "| --- | --- |",
        *(f"| {key} | {_text(value)} |" for key, value in rows),
    ]
    return "\n".join([*lines, ""])


def _lineage(facts: CardFacts) -> str:
    rows = [f"- {key}: `{value}`" for key, value in facts.lineage.items() if value]
    return "\n".join(["## Lineage", "", *rows, ""]) if rows else ""


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
