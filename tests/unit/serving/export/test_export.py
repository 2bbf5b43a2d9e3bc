"""Exports: what is refused before anything is loaded, what is compared, what is sent."""

from __future__ import annotations

import math
import os
import shlex
import shutil
import signal
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.serving.export.conftest import Api

from tunery.errors import InputError, RefError, StorageError
from tunery.models.adapter_files import write_folder
from tunery.serving.export import hub
from tunery.serving.export.export import (
    MARK,
    ExportRequest,
    _check,
    _check_source,
    _next,
    _stopping_cleanly,
    export,
    open_to_all,
)
from tunery.serving.export.hub import examples, requirements
from tunery.serving.export.merge import check, distance, reference_answers
from tunery.serving.export.model import ExportedModel


def refused(request: ExportRequest, expected: str) -> None:
    with pytest.raises(InputError, match=expected) as error:
        _check(request)
    assert error.value.exit_code == 2


def test_a_folder_with_something_in_it_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    refused(ExportRequest("adapter", tmp_path), "is not empty.*--overwrite")
    refused(ExportRequest("adapter", tmp_path, overwrite=True), "holds something other than an earlier export")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_an_earlier_export_may_be_replaced_if_that_is_said(tmp_path: Path) -> None:
    (tmp_path / MARK).write_text("{}")
    refused(ExportRequest("adapter", tmp_path), "is not empty")
    _check(ExportRequest("adapter", tmp_path, overwrite=True))


@pytest.mark.parametrize("file", ["adapter_config.json", "config.json", "space.json"])
def test_a_model_that_is_no_export_is_not_replaced(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_text("{}")
    refused(ExportRequest("adapter", tmp_path, overwrite=True), f"something other than an earlier export.*{MARK}")


def test_a_clone_of_a_repository_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / MARK).write_text("{}")
    (tmp_path / ".git").mkdir()
    refused(ExportRequest("adapter", tmp_path, overwrite=True), "something other")


def test_the_folder_that_one_stands_in_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / MARK).write_text("{}")
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    refused(ExportRequest("adapter", tmp_path, overwrite=True), "which --overwrite would delete")


@pytest.mark.parametrize("held", ["home", "base_folder"])
def test_a_folder_that_holds_the_project_or_the_base_is_not_replaced(tmp_path: Path, held: str) -> None:
    (tmp_path / MARK).write_text("{}")
    known = {"home": None, "base_folder": None, held: str(tmp_path / "held")}
    with pytest.raises(InputError, match="held, which --overwrite would delete"):
        _check_source(source(**known), ExportRequest("adapter", tmp_path, overwrite=True))
    _check_source(source(**known), ExportRequest("adapter", tmp_path / "held" / "out", overwrite=True))


def source(home: str | None = None, base_folder: str | None = None, trust_remote_code: bool = False) -> Any:
    """What is exported, as far as it can be refused."""
    base = SimpleNamespace(trust_remote_code=trust_remote_code)
    facts = SimpleNamespace(base=base, base_folder=base_folder)
    return SimpleNamespace(ref=SimpleNamespace(ref="models:/x/1"), full=False, home=home, facts=facts)


def test_a_base_with_code_of_its_own_makes_no_space(tmp_path: Path) -> None:
    with pytest.raises(RefError, match="needs custom code"):
        _check_source(source(trust_remote_code=True), ExportRequest("space", tmp_path))
    _check_source(source(trust_remote_code=True), ExportRequest("adapter", tmp_path))


def test_the_command_for_vllm_can_be_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my export"
    folder.mkdir()
    for name in ("adapter_config.json", "chat_template.jinja"):
        (folder / name).write_text("{}")
    monkeypatch.setattr("tunery.serving.export.export._vllm", lambda _folder: ([], 16))
    ref = SimpleNamespace(ref="models:/lima/1")
    known: Any = SimpleNamespace(on_hub=True, base="acme/base", project="lima", ref=ref)
    request = ExportRequest("adapter", folder)
    assert shlex.split(_next(folder, known, request))[-4:] == [
        "--lora-modules", f"lima={folder}", "--chat-template", f"{folder}/chat_template.jinja"
    ]  # fmt: skip
    monkeypatch.setattr("tunery.serving.export.export._vllm", lambda _folder: (["too wide"], None))
    again = ["tunery", "export", "models:/lima/1", "--out", str(folder), "--overwrite", "--to"]
    assert shlex.split(_next(folder, known, request)) == [*again, "merged"]
    assert shlex.split(_next(folder, known, ExportRequest("space", folder)))[: len(again) + 1] == [*again, "space"]
    assert shlex.split(_next(tmp_path, known, ExportRequest("merged", tmp_path))) == ["vllm", "serve", str(tmp_path)]


def test_where_a_local_base_lies_is_not_told() -> None:
    facts: Any = SimpleNamespace(base=SimpleNamespace(model="/home/me/mybase"), base_folder="/home/me/mybase")
    assert ExportedModel(None, Path(), facts, None, None).base == "mybase"  # type: ignore[arg-type]


def test_a_new_and_an_empty_folder_are_fine(tmp_path: Path) -> None:
    _check(ExportRequest("merged", tmp_path))
    _check(ExportRequest("merged", tmp_path / "new"))


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(ExportRequest("adapter", tmp_path / "file"), "is a file")


def test_what_is_missing_is_said() -> None:
    refused(ExportRequest("hub", None), "--repo owner/name")
    refused(ExportRequest("merged", None), "--out FOLDER")


def test_an_export_that_is_interrupted_leaves_nothing(tmp_path: Path) -> None:
    def half(place: Path) -> None:
        (place / "model.safetensors").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path / "out", half)
    assert list(tmp_path.iterdir()) == []


def filled(place: Path) -> None:
    (place / "model").mkdir()
    (place / "model" / "weights").write_text("new")


def test_an_empty_folder_is_filled_and_stays_the_same_folder(tmp_path: Path) -> None:
    """It may be a mount point, or the folder that the shell stands in."""
    before = tmp_path.stat().st_ino
    write_folder(tmp_path, filled, replace=False)
    assert tmp_path.stat().st_ino == before
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["model", "model/weights"]


@pytest.mark.parametrize("there", [False, True])
def test_files_that_arrive_while_it_is_written_stay(tmp_path: Path, there: bool) -> None:
    out = tmp_path / "out"
    if there:
        out.mkdir()

    def late(place: Path) -> None:
        filled(place)
        out.mkdir(exist_ok=True)
        (out / "thesis.tex").write_text("years of work")

    with pytest.raises(StorageError, match="something else came there in the meantime"):
        write_folder(out, late, replace=False)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "thesis.tex"]


def test_sigterm_ends_an_export_like_ctrl_c() -> None:
    def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), _stopping_cleanly():
        work()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("out", ["", ".", "link", "new"])
def test_any_name_of_an_empty_or_new_folder_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    here, target = tmp_path / "here", tmp_path / "target"
    for folder in (here, target):
        folder.mkdir()
    monkeypatch.chdir(here)
    if out == "link":
        (here / "link").symlink_to(target)
    monkeypatch.setattr("tunery.serving.export.export.opened", lambda *_: nullcontext(source()))
    monkeypatch.setattr("tunery.serving.export.export._fill", lambda *given: filled(given[-1]))
    monkeypatch.setattr("tunery.tracking.store.connect", lambda *_: None)
    export("models:/x/1", ExportRequest("adapter", Path(out)), SimpleNamespace(step=print))  # type: ignore[arg-type]
    assert (here / out / "model" / "weights").read_text() == "new"
    assert (target / "model").exists() == (out == "link")


def test_a_mount_point_with_an_export_in_it_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / MARK).write_text("{}")
    monkeypatch.setattr(Path, "is_mount", lambda _self: True)
    refused(ExportRequest("adapter", tmp_path, overwrite=True), "is a mount point")


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
    with pytest.raises(RefError, match=r"at most 0.5 nats per token.*--max-distance"):
        check([found], "models:/x/1")


def test_different_answers_are_not_compared() -> None:
    with pytest.raises(ValueError, match="zip"):
        distance(("merged", [[-1.0, -1.0]]), ("unmerged", [[-1.0]]), 0.5)


# ---- the Hub


@pytest.mark.parametrize("public", [False, True])
def test_a_repository_is_private_unless_it_is_said(api: type[Api], tmp_path: Path, public: bool) -> None:
    address = hub.upload(tmp_path, "me/lima", "model", public=public, message="from tunery")
    assert address == "https://huggingface.co/me/lima"
    (_, made), (_, sent) = api.calls
    assert made == {"repo": "me/lima", "repo_type": "model", "private": not public, "exist_ok": True}
    assert (sent["repo_id"], sent["folder_path"]) == ("me/lima", str(tmp_path))
    assert sent["delete_patterns"] == ["*"], "weights of an earlier export would be loaded beside these"


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
    with pytest.raises(RefError, match="the Hub refused the upload") as refused:
        hub.upload(tmp_path, "me/lima", "model", public=False, message="")
    assert "hf_abc" not in str(refused.value)
    assert str(tmp_path) in str(refused.value)


def test_without_a_token_nothing_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(RefError, match=r"no Hugging Face Hub token.*HF_TOKEN"):
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
    app = (Path(hub.__file__).parents[1] / "space" / "app.py").read_text()
    imported = {
        line.split()[1].split(".")[0] for line in app.splitlines() if line.lstrip().startswith(("import ", "from "))
    }
    needed = {line.split("==")[0] for line in requirements()}
    assert {"gradio", "torch", "transformers", "peft"} <= imported & needed
    assert all("==" in line and "+" not in line for line in requirements())


def test_held_out_prompts_and_items_of_tasks_are_what_is_compared(tmp_path: Path) -> None:
    facts: Any = SimpleNamespace(
        run_id="a", answers=({"prompt": "Who?", "reference": "Me."}, {"prompt": "Empty?", "reference": ""}), config={}
    )
    items = reference_answers(facts, tmp_path, most=6)
    assert items[0] == ("Who?", "Me.")
    assert len(items) == 6  # the others are of the task that ships in the package
    assert all(question.strip() and answer.strip() for question, answer in items)


def test_without_tasks_that_load_and_without_prompts_there_is_nothing_to_compare_by(tmp_path: Path) -> None:
    tree = {"name": "x", "data": {"train": [{"source": "none"}]}, "evaluation": {"tasks": ["no_such_task_at_all"]}}
    with pytest.raises(RefError, match="no answers to compare on"):
        reference_answers(SimpleNamespace(run_id="a", answers=(), config=tree), tmp_path)  # type: ignore[arg-type]


def test_a_folder_that_was_written_can_be_entered_by_others(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir(mode=0o700)  # as a download is

    def fill(place: Path) -> None:
        shutil.copytree(tmp_path / "private", place, dirs_exist_ok=True)
        (place / "model").mkdir(mode=0o700)
        (place / "model" / "weights").touch(mode=0o600)
        open_to_all(place)

    write_folder(tmp_path / "out", fill)
    modes = [path.stat().st_mode & 0o777 for path in (tmp_path / "out", *sorted((tmp_path / "out").rglob("*")))]
    assert modes == [0o755, 0o755, 0o644]
