"""Scoring a loaded model: the numbers are lm-eval's, repeat exactly, and leave the model as it was."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lm_eval.models.huggingface import HFLM

from tunery.config.evaluation import EvaluationConfig
from tunery.errors import NonFiniteScore, OutOfMemory, TaskError
from tunery.evaluation.eval_mode import adapter_off, undisturbed
from tunery.evaluation.lm import Scorer
from tunery.evaluation.score import score_in_blocks, score_model
from tunery.evaluation.tasks import load_tasks
from tunery.records.scores import TaskResult
from tunery.reporting import pace


def logs(result: Any) -> list[float]:
    return [value for row in result.samples["loglikelihoods"] for value in row]


def stock(model: Any, tokenizer: Any, folder: Path, name: str, chat_template: bool) -> Any:
    """lm-eval by itself, as its `simple_evaluate` does it: index, load, seed, evaluate."""
    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager

    config = (folder / f"{name}.yaml").read_text()
    elsewhere = folder.parent / f"stock-{name}"
    elsewhere.mkdir(exist_ok=True)
    for file in folder.glob("*.jsonl"):
        config = config.replace(file.name, str(file))
    (elsewhere / f"{name}.yaml").write_text(config)
    loaded = TaskManager(include_path=str(elsewhere), include_defaults=False).load([name])
    loaded["tasks"][name].set_fewshot_seed(seed=1234)
    return evaluate(
        HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4, softmax_dtype="float32"),
        loaded,
        apply_chat_template=chat_template,
        fewshot_as_multiturn=chat_template,
        bootstrap_iters=200,
    )


@pytest.mark.parametrize("chat_template", [False, True])
@pytest.mark.parametrize("name", ["many", "writing"])
def test_scores_are_those_of_stock_lm_eval(
    load: Any, model: Any, tokenizer: Any, name: str, chat_template: bool
) -> None:
    tasks, evaluation = load(name, chat_template=chat_template, batch_size=4)
    ours = score_model(model, tokenizer, tasks, evaluation)[name]
    theirs = stock(model, tokenizer, load.folder, name, chat_template)
    found = theirs["results"][name]
    for metric, score in ours.scores.items():
        plain, _, filter_name = metric.partition(".")
        assert score.value == pytest.approx(found[f"{plain},{filter_name or 'none'}"])
        assert score.stderr == pytest.approx(found[f"{plain}_stderr,{filter_name or 'none'}"])
    if name == "many":
        expected = [response[0][0] for sample in theirs["samples"][name] for response in sample["resps"]]
        assert logs(ours) == pytest.approx(expected, abs=1e-4)


def test_the_option_follows_the_assistants_marker_directly_under_a_chat_template(
    load: Any, model: Any, tokenizer: Any
) -> None:
    tasks, evaluation = load("few", chat_template=True)
    score_model(model, tokenizer, tasks, evaluation)
    context, continuation = tasks.leaves["few"]._requests[0][0].args
    assert context.endswith("<|im_start|>assistant\n")
    assert continuation == "deep red"


def test_scoring_again_gives_the_same_numbers(load: Any, model: Any, tokenizer: Any) -> None:
    tasks, evaluation = load("many", "writing")
    first = score_model(model, tokenizer, tasks, evaluation)
    second = score_model(model, tokenizer, tasks, evaluation)
    for name in ("many", "writing"):
        assert first[name].scores == second[name].scores
        assert first[name].samples.equals(second[name].samples)


@pytest.mark.parametrize("name", ["many", "few", "writing", "whole_text"])
def test_a_log_is_told_how_far_scoring_is(
    name: str, load: Any, model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "QUIET_SECONDS", 0.0)
    tasks, evaluation = load(name)
    said: list[str] = []
    with pace.listening(said.append):
        items = len(score_model(model, tokenizer, tasks, evaluation)[name].samples)
    told = [re.fullmatch(rf"scoring {name}: (\d+) of {items} items, about .* left", line) for line in said]
    done = [int(match[1]) for match in told if match]
    assert len(done) == len(said) > 0
    assert done == sorted(done)
    assert done[-1] < items


def test_a_second_scoring_tokenises_nothing(
    load: Any, model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks, evaluation = load("many", "writing")
    score_model(model, tokenizer, tasks, evaluation)
    encoded: list[str] = []
    original = type(tokenizer)._encode_plus

    def counted(self: Any, text: Any, *args: Any, **options: Any) -> Any:
        encoded.append(text)
        return original(self, text, *args, **options)

    monkeypatch.setattr(type(tokenizer), "_encode_plus", counted)
    score_model(model, tokenizer, tasks, evaluation)
    # The stop texts of a generation are encoded anew; no context and no option is.
    assert not [text for text in encoded if "Question" in str(text) or "red" in str(text)]


def test_another_tokenizer_gets_its_own_tokens(
    load: Any, model: Any, tokenizer: Any, make_llama: Callable[..., Any]
) -> None:
    import copy

    tasks, evaluation = load("few")
    score_model(model, tokenizer, tasks, evaluation)
    other = copy.deepcopy(tokenizer)
    other.backend_tokenizer.pre_tokenizer = None
    fresh, _ = load("few")
    mixed = score_model(model, other, tasks, evaluation)["few"]
    assert logs(mixed) == logs(score_model(model, other, fresh, evaluation)["few"])


def test_dev_scoring_sends_no_request_of_a_locked_item(
    load: Any, model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks, evaluation = load("many")
    everything = score_model(model, tokenizer, tasks, evaluation)["many"].samples
    sent: list[Any] = []
    original = Scorer._loglikelihood

    def counted(self: Any, requests: list[Any]) -> Any:
        sent.extend(requests)
        return original(self, requests)

    monkeypatch.setattr(Scorer, "_loglikelihood", counted)
    dev = score_model(model, tokenizer, tasks, evaluation, split="dev")["many"].samples
    assert 0 < len(dev) < len(everything)
    assert {request.doc_id for request in sent} == set(tasks.leaves["many"].chosen("dev", None, 0.5))
    assert len(sent) == 4 * len(dev)
    assert set(dev["split"]) == {"dev"}


def test_an_items_answer_does_not_depend_on_which_others_are_scored(load: Any, model: Any, tokenizer: Any) -> None:
    tasks, evaluation = load("many")
    fresh, _ = load("many")
    everything = score_model(model, tokenizer, tasks, evaluation)["many"].samples.set_index("item_id")
    dev = score_model(model, tokenizer, fresh, evaluation, split="dev")["many"].samples.set_index("item_id")
    same = everything.loc[dev.index]
    assert np.concatenate(list(dev["loglikelihoods"])) == pytest.approx(
        np.concatenate(list(same["loglikelihoods"])), abs=1e-4
    )


def test_dev_items_never_share_a_batch_with_locked_ones(
    load: Any, model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The width of a batch decides the last bits of its sums: a dev score must not depend on the locked items' lengths.
    batches: list[list[str]] = []
    answer = Scorer._loglikelihood

    def record(self: Any, requests: list[Any]) -> Any:
        batches.append([request.args[0] for request in requests])
        return answer(self, requests)

    monkeypatch.setattr(Scorer, "_loglikelihood", record)
    tasks, evaluation = load("many", "few", batch_size=4)
    score_model(model, tokenizer, tasks, evaluation, split="dev")
    (alone,) = batches
    score_model(model, tokenizer, tasks, evaluation)
    assert batches[1] == alone
    assert len(batches) == 3
    assert set(batches[1]).isdisjoint(batches[2])


def test_dev_and_locked_items_together_are_all_items(load: Any, model: Any, tokenizer: Any) -> None:
    tasks, evaluation = load("many")
    parts = [
        score_model(model, tokenizer, tasks, evaluation, split=split)["many"].samples for split in ("dev", "locked")
    ]
    names = [name for part in parts for name in part["item_id"]]
    assert sorted(names) == sorted(tasks.leaves["many"].item_ids)


def test_a_limit_takes_the_first_items_of_the_split(load: Any, model: Any, tokenizer: Any) -> None:
    tasks, evaluation = load("many")
    dev = score_model(model, tokenizer, tasks, evaluation, split="dev")["many"].samples
    few = score_model(model, tokenizer, tasks, evaluation, split="dev", limit=3)["many"]
    assert list(few.samples["item_id"]) == list(dev["item_id"])[:3]
    assert few.settings.limit == 3


def test_a_split_without_items_is_left_out(load: Any, model: Any, tokenizer: Any) -> None:
    tasks, evaluation = load("few", dev_fraction=1.0)
    assert score_model(model, tokenizer, tasks, evaluation, split="locked") == {}


def test_samples_say_what_was_asked_for_and_what_was_answered(load: Any, model: Any, tokenizer: Any) -> None:
    tasks, evaluation = load("few")
    samples = score_model(model, tokenizer, tasks, evaluation)["few"].samples
    options = ("deep red", "pale green", "light blue", "bright yellow")
    assert list(samples["target"]) == [options[number % 4] for number in range(100, 110)]
    for row in samples.to_dict("records"):
        assert row["prediction"] == options[int(np.argmax(row["loglikelihoods"]))]
        assert row["acc"] == float(row["prediction"] == row["target"])
        assert (row["options"], row["raw_answers"]) == (list(options), [])
    assert samples["question"][0] == "Question: which colour has the house 100?\nAnswer:"


def test_samples_hold_what_was_written_before_the_filters(load: Any, model: Any, tokenizer: Any) -> None:
    tasks, evaluation = load("writing", limit=4)
    samples = score_model(model, tokenizer, tasks, evaluation)["writing"].samples
    raw = stock(model, tokenizer, load.folder, "writing", False)["samples"]["writing"]
    first = [one for one in raw if one["filter"] == "whole"][:4]
    assert [list(row) for row in samples["raw_answers"]] == [one["resps"][0] for one in first]
    assert samples["question"][1] == "Question: which colour has the house 1?\nAnswer:"


def test_samples_of_a_task_that_asks_by_its_options_hold_the_shared_ending(
    load: Any, model: Any, tokenizer: Any
) -> None:
    tasks, evaluation = load("filling")
    samples = score_model(model, tokenizer, tasks, evaluation)["filling"].samples
    assert set(samples["question"]) == {"is the colour"}


def test_a_metric_that_is_no_mean_has_a_score_but_no_column(load: Any, model: Any, tokenizer: Any) -> None:
    tasks, evaluation = load("agreement")
    result = score_model(model, tokenizer, tasks, evaluation)["agreement"]
    assert result.scores["mcc"].stderr is not None
    assert "mcc" in result.scores
    assert "mcc" not in result.samples


def test_a_task_with_two_filters_has_a_metric_for_each(load: Any, model: Any, tokenizer: Any) -> None:
    tasks, evaluation = load("writing")
    result = score_model(model, tokenizer, tasks, evaluation)["writing"]
    assert set(result.scores) == {"exact_match.whole", "exact_match.first-word"}
    assert {"exact_match.whole", "exact_match.first-word"} <= set(result.samples)


def test_a_single_items_error_is_none_and_not_zero(load: Any, model: Any, tokenizer: Any) -> None:
    tasks, evaluation = load("many", limit=1)
    assert score_model(model, tokenizer, tasks, evaluation)["many"].scores["acc"].stderr is None


def test_a_group_weighted_by_size_is_the_mean_over_its_items(load: Any, model: Any, tokenizer: Any) -> None:
    tasks, evaluation = load("both")
    results = score_model(model, tokenizer, tasks, evaluation)
    assert results["both"].scores["acc"].value == pytest.approx(results["both"].samples["acc"].mean())
    assert results["both"].scores["acc"].items == 40


def test_a_group_of_equal_tasks_is_the_mean_of_its_tasks(load: Any, model: Any, tokenizer: Any) -> None:
    tasks, evaluation = load("equal")
    results = score_model(model, tokenizer, tasks, evaluation)
    expected = (results["many"].scores["acc"].value + results["few"].scores["acc"].value) / 2
    assert results["equal"].scores["acc"].value == pytest.approx(expected)


def test_a_task_that_asks_by_its_options_says_which_was_right(load: Any, model: Any, tokenizer: Any) -> None:
    tasks, evaluation = load("filling")
    samples = score_model(model, tokenizer, tasks, evaluation)["filling"].samples
    assert list(samples["target"])[:3] == ["deep red", "pale green", "light blue"]
    assert list(samples["acc"]) == list((samples["prediction"] == samples["target"]).astype(float))


def test_a_continuations_perplexity_is_that_of_its_log_likelihoods(load: Any, model: Any, tokenizer: Any) -> None:
    tasks, evaluation = load("next_word")
    result = score_model(model, tokenizer, tasks, evaluation)["next_word"]
    expected = np.exp(-np.mean([row[0] for row in result.samples["loglikelihoods"]]))
    assert result.scores["perplexity"].value == pytest.approx(expected)
    assert not result.scores["perplexity"].higher_is_better


def test_a_texts_perplexity_counts_its_words(load: Any, model: Any, tokenizer: Any) -> None:
    tasks, evaluation = load("whole_text")
    result = score_model(model, tokenizer, tasks, evaluation)["whole_text"]
    words = 10 * 6  # "which colour has the house 100?"
    expected = np.exp(-sum(row[0] for row in result.samples["loglikelihoods"]) / words)
    assert result.scores["word_perplexity"].value == pytest.approx(expected)


# ---- nothing is disturbed


def test_every_module_is_in_evaluation_mode_while_a_model_is_looked_at(model: Any) -> None:
    # HFLM puts a model into evaluation mode when it is built, which hides that nothing else does.
    model.train()
    with undisturbed(model):
        assert not any(module.training for module in model.modules())
        assert not torch.is_grad_enabled()
    assert all(module.training for module in model.modules())


def test_dropout_is_off_while_scoring_and_the_mode_is_restored(
    load: Any, tokenizer: Any, make_llama: Callable[..., Any]
) -> None:
    model = make_llama(len(tokenizer), attention_dropout=0.5)
    tasks, evaluation = load("few")
    expected = score_model(model, tokenizer, tasks, evaluation)["few"]
    model.train()
    model.model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    assert logs(score_model(model, tokenizer, tasks, evaluation)["few"]) == logs(expected)
    assert [module.training for module in model.modules()] == modes


def test_random_generators_are_where_they_were(load: Any, model: Any, tokenizer: Any) -> None:
    tasks, evaluation = load("many", "writing")
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    score_model(model, tokenizer, tasks, evaluation)
    found = random.random(), np.random.random(), torch.rand(1).item()
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    assert found == (random.random(), np.random.random(), torch.rand(1).item())


def test_weights_gradients_and_tokenizer_are_untouched(load: Any, model: Any, tokenizer: Any) -> None:
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    needs = [parameter.requires_grad for parameter in model.parameters()]
    side, pad = tokenizer.padding_side, tokenizer.pad_token
    tasks, evaluation = load("few", "writing")
    score_model(model, tokenizer, tasks, evaluation)
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())
    assert [parameter.requires_grad for parameter in model.parameters()] == needs
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.is_grad_enabled()
    assert (tokenizer.padding_side, tokenizer.pad_token) == (side, pad)
    assert "tie_weights" not in vars(model)


def test_the_base_is_scored_with_its_adapter_off(load: Any, model: Any, tokenizer: Any) -> None:
    from peft import LoraConfig, get_peft_model

    tasks, evaluation = load("few")
    base = score_model(model, tokenizer, tasks, evaluation)["few"]
    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    tuned = score_model(adapted, tokenizer, tasks, evaluation)["few"]
    with adapter_off(adapted) as without:
        off = score_model(without, tokenizer, tasks, evaluation)["few"]
    assert logs(off) == logs(base)
    assert logs(tuned) != logs(base)


# ---- the silent errors


def test_log_likelihoods_of_a_bf16_model_are_summed_in_fp32(
    tmp_path: Path, model: Any, tokenizer: Any, write_task: Callable[..., None]
) -> None:
    # 80 tokens and more: a bf16 sum near 350 moves in steps of 2.
    long = [" ".join([colour] * 20) for colour in ("deep red", "pale green", "light blue", "bright yellow")]
    write_task(tmp_path, "long", 6, options=long)
    evaluation = EvaluationConfig(tasks=["long"], task_folders=["."])
    tasks = load_tasks(evaluation, tmp_path, False)
    model = model.to(torch.bfloat16)
    found = score_model(model, tokenizer, tasks, evaluation)["long"].samples["loglikelihoods"]
    for number, row in enumerate(found):
        for option, value in zip(long, row, strict=True):
            prompt = f"Question: which colour has the house {number}?\nAnswer:"
            ids = tokenizer(f"{prompt} {option}", return_tensors="pt").input_ids
            start = len(tokenizer(prompt).input_ids)
            with torch.no_grad():
                chances = model(ids).logits[0, :-1].double().log_softmax(-1)
            expected = chances[start - 1 :].gather(1, ids[0, start:, None]).sum().item()
            assert abs(expected) > 300
            # bf16 weights in a batch of another size differ a little; bf16 sums differ by up to 1.
            assert value == pytest.approx(expected, abs=0.15)


def test_scoring_a_4_bit_model_leaves_its_gradients_as_they_were(
    load: Any, tokenizer: Any, tmp_path: Path, model: Any
) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    model.save_pretrained(tmp_path)
    settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    base = AutoModelForCausalLM.from_pretrained(tmp_path, quantization_config=settings, device_map="cpu")
    four_bit = [module for module in base.modules() if hasattr(module, "support_avx512bf16_for_cpu")]
    torch.manual_seed(0)
    adapted = get_peft_model(base, LoraConfig(target_modules="all-linear", init_lora_weights=False)).train()
    before, weights = gradients(adapted), [module.weight.data.clone() for module in four_bit]
    for module in four_bit:
        # What bitsandbytes sets by itself on a CPU with AVX512-BF16.
        module.support_avx512bf16_for_cpu = True
    tasks, evaluation = load("few", limit=4)
    score_model(adapted, tokenizer, tasks, evaluation)
    assert four_bit
    assert all(torch.equal(module.weight.data, weight) for module, weight in zip(four_bit, weights, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(before, gradients(adapted), strict=True))


def gradients(model: Any) -> list[torch.Tensor]:
    model.zero_grad()
    ids = torch.arange(10, 42).reshape(2, 16)
    model(input_ids=ids, labels=ids).loss.backward()
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.requires_grad]


# ---- what goes wrong


def give_no_numbers(model: Any) -> None:
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(float("nan"))


@pytest.mark.parametrize("name", ["many", "next_word", "whole_text"])
def test_a_model_that_gives_no_numbers_has_no_score(load: Any, model: Any, tokenizer: Any, name: str) -> None:
    """lm-eval takes the first of options that are all NaN for the answer: 20 % right."""
    give_no_numbers(model)
    tasks, evaluation = load(name, batch_size=4)
    with pytest.raises(
        NonFiniteScore, match=rf"{name}: log-likelihoods of (\d+) of \1 items \(the first is 1, '.*'\) are not finite"
    ) as failed:
        score_model(model, tokenizer, tasks, evaluation)
    assert failed.value.failure == "nan"
    assert "base.dtype: float32" in str(failed.value)


def test_a_model_that_gives_no_numbers_writes_no_answers(load: Any, model: Any, tokenizer: Any) -> None:
    """Greedy decoding of NaN writes one token over and over."""
    give_no_numbers(model)
    tasks, evaluation = load("writing", batch_size=4)
    with pytest.raises(NonFiniteScore, match=r"generating: logits after '.*Answer:' are not finite"):
        score_model(model, tokenizer, tasks, evaluation)


def test_one_item_that_overflows_is_named(load: Any, model: Any, tokenizer: Any) -> None:
    from tunery.evaluation.lm import Scorer

    tasks, _ = load("many", batch_size=4, few_shot=0)
    scorer = Scorer(model, tokenizer, 4, {}, False)
    answers = scorer._loglikelihood
    scorer._loglikelihood = lambda some: [  # type: ignore[method-assign]
        (float("-inf"), False) if one.doc_id == 4 else answer for one, answer in zip(some, answers(some), strict=True)
    ]
    leaf = tasks.leaves["many"]
    leaf.build(None, "plain")
    requests = [request for some in leaf._requests.values() for request in some]
    with pytest.raises(NonFiniteScore, match=r"many: log-likelihoods of 1 of 30 items \(the first is 5, '.*house 4"):
        scorer.loglikelihood(requests)


@pytest.mark.parametrize(
    "error",
    [MemoryError("no more"), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory")],
)
def test_memory_that_runs_out_is_said_with_what_to_change(
    load: Any, model: Any, tokenizer: Any, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    tasks, evaluation = load("few", batch_size=7)
    monkeypatch.setattr(model, "forward", refuse)
    with pytest.raises(OutOfMemory, match=r"scoring: out of memory .*evaluation\.batch_size \(7\)"):
        score_model(model, tokenizer, tasks, evaluation)


def test_a_tokenizer_without_chat_template_is_refused_when_one_is_asked_for(
    load: Any, model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer, "chat_template", None)
    tasks, evaluation = load("few", chat_template=True)
    with pytest.raises(TaskError, match=r"evaluation\.chat_template"):
        score_model(model, tokenizer, tasks, evaluation)


def test_a_second_scoring_compiles_no_prompt(
    load: Any, model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jinja2 import Environment

    tasks, evaluation = load("many", "writing")
    score_model(model, tokenizer, tasks, evaluation)
    compiled: list[str] = []
    original = Environment.compile

    def counted(self: Any, source: Any, *args: Any, **options: Any) -> Any:
        compiled.append(source)
        return original(self, source, *args, **options)

    monkeypatch.setattr(Environment, "compile", counted)
    score_model(model, tokenizer, tasks, evaluation)
    assert compiled == []


def test_prompts_that_are_longer_than_the_model_takes_are_counted(load: Any, tokenizer: Any, make_llama: Any) -> None:
    tasks, evaluation = load("many", "few", "writing", few_shot=8, limit=6)
    short = make_llama(len(tokenizer), max_position_embeddings=64)
    results = score_model(short, tokenizer, tasks, evaluation)
    assert (results["many"].samples["cut_tokens"] > 0).all()
    assert (results["writing"].samples["cut_tokens"] > 0).all()
    assert "cut_tokens" not in results["few"].samples  # its own number of examples is 0
    again, _ = load("many", few_shot=8, limit=6)
    long = make_llama(len(tokenizer), max_position_embeddings=2048)
    assert "cut_tokens" not in score_model(long, tokenizer, again, evaluation)["many"].samples


def test_an_answer_that_leaves_no_room_for_a_prompt_is_refused(load: Any, tokenizer: Any, make_llama: Any) -> None:
    tasks, evaluation = load("writing")
    with pytest.raises(TaskError, match="writing: tokens of its longest answer is 6, but must be below 6"):
        score_model(make_llama(len(tokenizer), max_position_embeddings=6), tokenizer, tasks, evaluation)


def test_scoring_in_blocks_ends_with_the_results_of_a_whole_scoring(load: Any, model: Any, tokenizer: Any) -> None:
    tasks, evaluation = load("both", "writing", "next_word", dev_fraction=0.9)
    whole = score_model(model, tokenizer, tasks, evaluation, split="dev")
    seen: list[str] = []

    def look(block: Mapping[str, TaskResult]) -> bool:
        seen.extend(item for name in ("many", "few") for item in block[name].samples["item_id"])
        return False

    found = score_in_blocks(model, tokenizer, tasks, evaluation, ["both"], look)
    assert found is not None
    assert set(found) == set(whole)
    assert sorted(seen) == sorted(whole["both"].samples["item_id"])  # each once
    for name, result in whole.items():
        assert list(found[name].samples["item_id"]) == list(result.samples["item_id"])
        assert list(found[name].samples["prediction"]) == list(result.samples["prediction"])
        for metric, score in result.scores.items():
            assert found[name].scores[metric].value == pytest.approx(score.value, rel=1e-5, abs=1e-4)


def test_a_look_ends_scoring_and_what_was_answered_is_not_asked_again(
    load: Any, model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks, evaluation = load("many", "few", dev_fraction=0.9)
    monkeypatch.setattr("tunery.evaluation.score._SMALLEST_BLOCK", 5)
    asked: list[int] = []
    original = Scorer._apart

    def counted(self: Any, requests: Any, answer: Any) -> Any:
        asked.append(len(requests))
        return original(self, requests, answer)

    monkeypatch.setattr(Scorer, "_apart", counted)
    looks: list[int] = []

    def second(block: Mapping[str, TaskResult]) -> bool:
        looks.append(len(block["many"].samples))
        return len(looks) == 2

    assert score_in_blocks(model, tokenizer, tasks, evaluation, ["many"], second) is None
    assert looks == [5, 5]
    assert sum(asked) == 10 * 4
    asked.clear()
    assert score_in_blocks(model, tokenizer, tasks, evaluation, ["many"], lambda _: False) is not None
    dev = [len(tasks.leaves[name].chosen("dev", None, evaluation.dev_fraction)) for name in ("many", "few")]
    assert sum(asked) == sum(dev) * 4
