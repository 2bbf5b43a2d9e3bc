"""A folder to start from: what is written, and that nothing is where something was wrong."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from tests.told import Told

from tunery.config.load import load_project
from tunery.errors import DataError, InputError
from tunery.runs.new import NewProject, new


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: rows of several kinds, and a folder that holds no model."""
    (tmp_path / "qa.csv").write_text("Question,Answer\n" + "".join(f"What is {n}?,It is {n}.\n" for n in range(8)))
    (tmp_path / "odd.csv").write_text("left,right\na,b\n")
    turns = {"messages": [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Yes."}]}
    (tmp_path / "chats.jsonl").write_text("\n".join(json.dumps(turns) for _ in range(4)))
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    (tmp_path / "empty.csv").write_text("prompt,completion\n")
    (tmp_path / "nomodel").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_rows_and_a_base_make_a_project_whose_columns_are_named(place: Path) -> None:
    told = Told()
    folder = new(NewProject("faq", data="qa.csv", base="builtin:tiny"), [("training.epochs", "5")], told)
    project = load_project(folder)
    (source,) = project.data.train
    assert source.columns == {"prompt": "Question", "completion": "Answer"}
    assert (place / folder / source.source).resolve() == place / "qa.csv"
    assert (project.name, project.base.model, project.training.epochs) == ("faq", "builtin:tiny", 5)
    assert any(line.startswith("qa.csv: format columns, detected") for line in told.lines), "the path as it was given"
    assert any(
        "8 rows can be used; the first is user: 'What is 0?'; assistant: 'It is 0.'" in line for line in told.lines
    )
    train = "tunery train --project projects/faq"
    assert told.lines[-2:] == [f"next: {train} --preview 3, to see rows as the model does", f"then: {train}"]
    assert told.lines[-3].startswith("nothing scores it yet")
    assert (folder / "project.yaml").read_text().count("# ") > 20


def test_columns_that_are_not_recognised_stand_in_the_advice_by_their_names(place: Path) -> None:
    (place / "fragen.csv").write_text("Frage,Antwort\nWas ist 1?,Es ist 1.\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"'\{prompt: Frage, completion: Antwort\}' or --data\.train\.0\.sheet"):
        new(NewProject("faq", data="fragen.csv", base="builtin:tiny"), [], Told())


def test_the_advice_can_be_pasted_for_columns_of_any_name(place: Path) -> None:
    (place / "odd names.csv").write_text('"Frage ?","Réponse, l\'une"\nWas ist 1?,Es ist 1.\n', encoding="utf-8")
    wanted = NewProject("faq", data="odd names.csv", base="builtin:tiny")
    with pytest.raises(DataError, match=r"the columns are Frage \?, \"Réponse, l'une\"") as caught:
        new(wanted, [], Told())
    words = shlex.split(str(caught.value).partition("such as ")[2].partition(" or --")[0])
    folder = new(wanted, [(words[0].removeprefix("--"), words[1])], Told())
    assert load_project(folder).data.train[0].columns == {"prompt": "Frage ?", "completion": "Réponse, l'une"}


def test_a_format_that_is_recognised_is_written(place: Path) -> None:
    folder = new(NewProject("chats", data=str(place / "chats.jsonl"), base="owner/model"), [], Told())
    (source,) = load_project(folder).data.train
    assert (source.format, source.source) == ("messages", "../../chats.jsonl"), "the folder around both can be moved"


def test_a_file_outside_the_working_folder_keeps_its_address(
    tmp_path_factory: pytest.TempPathFactory, place: Path
) -> None:
    outside = shutil.copy(place / "chats.jsonl", tmp_path_factory.mktemp("elsewhere"))
    folder = new(NewProject("chats", data=str(outside), base="owner/model"), [], Told())
    assert load_project(folder).data.train[0].source == str(outside)


def test_columns_that_are_not_recognised_can_be_named(place: Path) -> None:
    columns = [("data.train.0.columns", "{prompt: left, completion: right}")]
    folder = new(NewProject("odd", data="odd.csv", base="builtin:tiny"), columns, Told())
    assert load_project(folder).data.train[0].columns == {"prompt": "left", "completion": "right"}


def test_another_project_is_copied_with_the_files_it_needs(place: Path) -> None:
    folder = new(NewProject("mine", start="quickstart"), [], Told())
    project = load_project(folder)
    own = load_project(Path(__file__).parents[3] / "projects" / "quickstart")
    assert project.name == "mine"
    assert (project.training, project.data, project.search) == (own.training, own.data, own.search)
    assert (folder / "data" / "facts.jsonl").is_file()
    assert not (folder / "README.md").exists()


def test_what_belongs_to_the_copied_project_alone_stays_there(place: Path) -> None:
    source = place / "theirs"
    shutil.copytree(Path(__file__).parents[3] / "projects" / "instruct-llama", source)
    for folder in ("stand-in", "data/pictures"):
        (source / folder).mkdir(parents=True)
    (source / "stand-in" / "model.safetensors").write_bytes(b"weights")
    (source / "data" / "pictures" / "chart.png").write_bytes(b"a row's picture")
    (source / "own_task.yaml").write_text("task: own\nprocess_docs: !function rows.own\n")
    folder = new(NewProject("mine", start=str(source)), [], Told())
    there = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    copied = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    left = {"README.md", "datasets.yaml", "smoke.yaml", "writing.yaml", "leaderboard.png", "stand-in/model.safetensors"}
    assert there - copied == left
    assert copied <= there


def test_a_project_on_a_stand_in_is_copied_with_it(place: Path) -> None:
    source = place / "theirs"
    (source / "stand-in").mkdir(parents=True)
    (source / "stand-in" / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (source / "stand-in" / "tokenizer.json").write_text("{}")
    (source / "stand-in" / "model.safetensors").write_bytes(b"weights")
    shutil.copy(place / "qa.csv", source)
    columns = "{prompt: Question, completion: Answer}"
    (source / "project.yaml").write_text(
        f"name: theirs\nbase: {{model: stand-in}}\ndata: {{train: [{{source: qa.csv, columns: {columns}}}]}}\n"
    )
    folder = new(NewProject("mine", start=str(source)), [], Told())
    assert (folder / "stand-in" / "config.json").is_file()


def test_a_copy_takes_other_rows_and_another_base(place: Path) -> None:
    folder = new(NewProject("mine", start="lima-mistral", data="qa.csv", base="builtin:tiny"), [], Told())
    project = load_project(folder)
    assert [source.source for source in project.data.train] == ["../../qa.csv"]
    assert (project.base.model, project.base.dtype, project.data.max_length) == ("builtin:tiny", "bfloat16", 2048)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (NewProject("x"), "needs --from PROJECT, or --data ROWS and --base MODEL"),
        (NewProject("x", data="qa.csv"), "needs --from PROJECT, or --data ROWS and --base MODEL"),
        (NewProject("a b", data="qa.csv", base="builtin:tiny"), "name is 'a b'"),
        (NewProject("x", start="nowhere"), r"--from is 'nowhere', but must be .*lima-mistral, .*quickstart"),
        (
            NewProject("x", data="gone.csv", base="builtin:tiny"),
            r"gone\.csv: no such file: looked in \S+\. Paths of --data start at the working folder\.$",
        ),
        (NewProject("x", data="torn.parquet", base="builtin:tiny"), "torn.parquet"),
        (
            NewProject("x", data="empty.csv", base="builtin:tiny"),
            r"^empty\.csv: has no rows: a dataset must have at least one\.$",
        ),
        (
            NewProject("x", data="odd.csv", base="builtin:tiny"),
            r"cannot be detected.*left, right.*--data.train.0.columns",
        ),
        (NewProject("x", data="qa.csv", base="nomodel"), "config.json"),
        (NewProject("x", data="qa.csv", base="./gone"), "base.model is './gone'"),
        (NewProject("x", data="qa.csv", base="no model"), "base.model is 'no model'"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_made(place: Path, wanted: NewProject, told: str) -> None:
    with pytest.raises(InputError) as raised:
        new(wanted, [], Told())
    assert re.search(told, " ".join(str(raised.value).split()))
    assert not (place / "projects").exists()


def test_a_folder_that_is_there_stays_as_it_is(place: Path) -> None:
    (place / "projects" / "x").mkdir(parents=True)
    (place / "projects" / "x" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"projects/x is there already, but must be new"):
        new(NewProject("x", data="qa.csv", base="builtin:tiny"), [], Told())
    assert [file.name for file in (place / "projects" / "x").iterdir()] == ["notes.txt"]
