"""Exports: what is refused before anything is loaded, what is compared, what is sent."""

from __future__ import annotations

import math
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tunery.errors import InputError, RefError
from tunery.models.store import write_folder
from tunery.serving import hub
from tunery.serving.export import Wish, _check, _stopping_cleanly
from tunery.serving.merge import check, distance
from tunery.serving.space_folder import examples, requirements


def refused(wish: Wish, expected: str) -> None:
    with pytest.raises(InputError, match=expected) as error:
        _check(wish)
    assert error.value.exit_code == 2


def test_a_folder_with_something_in_it_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    refused(Wish("adapter", tmp_path), "is not empty.*--overwrite")
    refused(Wish("adapter", tmp_path, overwrite=True), "holds something else than an earlier export")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("mark", ["adapter_config.json", "config.json", "space.json"])
def test_an_earlier_export_may_be_replaced_if_that_is_said(tmp_path: Path, mark: str) -> None:
    (tmp_path / mark).write_text("{}")
    refused(Wish("adapter", tmp_path), "is not empty")
    _check(Wish("adapter", tmp_path, overwrite=True))


def test_a_clone_of_a_repository_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / ".git").mkdir()
    refused(Wish("adapter", tmp_path, overwrite=True), "something else")


def test_a_new_and_an_empty_folder_are_fine(tmp_path: Path) -> None:
    _check(Wish("merged", tmp_path))
    _check(Wish("merged", tmp_path / "new"))


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(Wish("adapter", tmp_path / "file"), "is a file")


def test_what_is_missing_is_said() -> None:
    refused(Wish("hub", None), "--repo owner/name")
    refused(Wish("merged", None), "--out FOLDER")


def test_an_export_that_is_interrupted_leaves_nothing(tmp_path: Path) -> None:
    def half(place: Path) -> None:
        (place / "model.safetensors").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path / "out", half)
    assert list(tmp_path.iterdir()) == []


def test_sigterm_ends_an_export_like_ctrl_c() -> None:
    def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), _stopping_cleanly():
        work()
    assert signal.getsignal(signal.SIGTERM) is before


# ---- how far a merged model is


def test_the_distance_is_a_mean_over_tokens() -> None:
    found = distance(("merged", [[-1.0, -2.0], [-3.0]]), ("unmerged", [[-1.0, -2.3], [-2.4]]), 0.5)
    assert (found.answers, found.tokens) == (2, 3)
    assert found.mean == pytest.approx((0 + 0.3 + 0.6) / 3)
    assert found.largest == pytest.approx(0.6)
    check([found], "models:/x/1")


@pytest.mark.parametrize("other", [-2.0, math.nan])
def test_a_distance_past_its_bound_or_no_number_is_refused(other: float) -> None:
    found = distance(("merged", [[-1.0]]), ("unmerged", [[other]]), 0.5)
    with pytest.raises(RefError, match=r"at most 0.5 nats a token.*--max-distance"):
        check([found], "models:/x/1")


def test_different_answers_are_not_compared() -> None:
    with pytest.raises(ValueError, match="zip"):
        distance(("merged", [[-1.0, -1.0]]), ("unmerged", [[-1.0]]), 0.5)


# ---- the Hub


class Api:
    """Takes what HfApi takes, and remembers it."""

    calls: list[tuple[str, dict[str, Any]]]

    def __init__(self) -> None:
        Api.calls = getattr(Api, "calls", [])

    def create_repo(self, repo: str, **options: Any) -> str:
        Api.calls.append(("create", {"repo": repo, **options}))
        return f"https://huggingface.co/{repo}"

    def upload_folder(self, **options: Any) -> None:
        Api.calls.append(("upload", options))


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> type[Api]:
    import huggingface_hub

    Api.calls = []
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_abcdefghijklmnopqrst")
    return Api


@pytest.mark.parametrize("public", [False, True])
def test_a_repository_is_private_unless_it_is_said(api: type[Api], tmp_path: Path, public: bool) -> None:
    address = hub.upload(tmp_path, "me/lima", "model", public=public, message="from tunery")
    assert address == "https://huggingface.co/me/lima"
    (_, made), (_, sent) = api.calls
    assert made == {"repo": "me/lima", "repo_type": "model", "private": not public, "exist_ok": True}
    assert (sent["repo_id"], sent["folder_path"]) == ("me/lima", str(tmp_path))


def test_a_space_is_made_as_one(api: type[Api], tmp_path: Path) -> None:
    hub.upload(tmp_path, "me/demo", "space", public=False, message="")
    assert api.calls[0][1]["space_sdk"] == "gradio"
    assert api.calls[1][1]["repo_type"] == "space"


def test_a_hub_that_refuses_is_told_without_the_token(
    api: type[Api], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("403 for hf_abcdefghijklmnopqrst")

    monkeypatch.setattr(Api, "upload_folder", refuse)
    with pytest.raises(RefError, match="the Hub did not take it") as refused:
        hub.upload(tmp_path, "me/lima", "model", public=False, message="")
    assert "hf_abc" not in str(refused.value)
    assert str(tmp_path) in str(refused.value)


def test_without_a_token_nothing_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(RefError, match=r"no token of the Hugging Face Hub.*HF_TOKEN"):
        hub.check_repo("me/lima")


@pytest.mark.parametrize("repo", ["lima", "me/", "a/b/c", "me/with space", "-me/lima"])
def test_a_name_that_no_repository_has(api: type[Api], repo: str) -> None:
    with pytest.raises(RefError, match="must be owner/name"):
        hub.check_repo(repo)


# ---- a Space


def test_a_space_begins_with_a_few_short_questions() -> None:
    prompts = ["One?", "One?", "user: a\nassistant: b", "x" * 500, *(f"{n}?" for n in range(9))]
    assert examples(prompts) == ["One?", "0?", "1?", "2?"]


def test_a_space_asks_for_exact_versions_of_what_its_app_imports() -> None:
    app = (Path(hub.__file__).parent / "space" / "app.py").read_text()
    imported = {
        line.split()[1].split(".")[0] for line in app.splitlines() if line.lstrip().startswith(("import ", "from "))
    }
    needed = {line.split("==")[0] for line in requirements()}
    assert {"gradio", "torch", "transformers", "peft"} <= imported & needed
    assert all("==" in line and "+" not in line for line in requirements())


def test_held_out_prompts_and_items_of_tasks_are_what_is_compared(tmp_path: Path) -> None:
    from tunery.serving.items import real_items

    facts: Any = SimpleNamespace(
        run_id="a", answers=({"prompt": "Who?", "reference": "Me."}, {"prompt": "Empty?", "reference": ""}), config={}
    )
    items = real_items(facts, tmp_path, most=6)
    assert items[0] == ("Who?", "Me.")
    assert len(items) == 6  # the others are of the task that ships in the package
    assert all(question.strip() and answer.strip() for question, answer in items)


def test_without_tasks_that_load_and_without_prompts_there_is_nothing_to_compare_by(tmp_path: Path) -> None:
    from tunery.serving.items import real_items

    tree = {"name": "x", "data": {"train": [{"source": "none"}]}, "evaluation": {"tasks": ["no_such_task_at_all"]}}
    with pytest.raises(RefError, match="nothing to compare by"):
        real_items(SimpleNamespace(run_id="a", answers=(), config=tree), tmp_path)  # type: ignore[arg-type]
