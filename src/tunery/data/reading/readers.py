"""One reader a file type: numbered rows, with bad rows named rather than skipped.

Text is UTF-8, with or without a byte order mark. Bytes that are not UTF-8 become lone surrogates, so that the one row
that holds them can be named; `formats` refuses such text.
"""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tunery.data.reading import strict_json
from tunery.data.reading.rows import Numbered, Unreadable, is_blank
from tunery.errors import DataError, Fault, first_line


def decode(content: bytes, where: str) -> str:
    """The text of a file; a byte that is not UTF-8 becomes a lone surrogate.

    Raises:
        DataError: When the file is UTF-16 or UTF-32, as its first bytes say, or none of these.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")):
        raise DataError(where, Fault("not UTF-8", "the file is UTF-16 or UTF-32", advice="Save it as UTF-8."))
    # Rows of UTF-16 without its mark would be learned, with a zero after each letter.
    if b"\x00" in content.partition(b"\n")[0]:
        rule = "its first line holds a zero byte: UTF-16, compressed, or damaged"
        raise DataError(where, Fault("not a text", rule, advice="Save it as UTF-8."))
    return content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="surrogateescape")


def read_jsonl(file: Path) -> Iterator[Numbered]:
    """One JSON object a line, numbered by lines; or a list of objects, numbered by rows."""
    text = decode(file.read_bytes(), str(file))
    if text.lstrip().startswith("["):
        with suppress(ValueError, RecursionError):
            return ((n, _object(entry)) for n, entry in enumerate(strict_json.loads(text), start=1))
    return _json_lines(text)


def _json_lines(text: str) -> Iterator[Numbered]:
    # Not splitlines(): it also splits at U+2028 and others, which may occur inside a JSON string.
    for number, line in enumerate(text.rstrip().split("\n"), start=1):
        yield number, _json_object(line) if line.strip() else {}


def _json_object(line: str) -> Mapping[str, Any] | str:
    try:
        return _object(strict_json.loads(line))
    except (ValueError, RecursionError) as error:
        return f"JSON that cannot be read ({error})"


def _object(value: object) -> Mapping[str, Any] | str:
    return value if isinstance(value, dict) else f"{type(value).__name__} instead of an object"


def read_json(file: Path, split: str) -> Iterator[Numbered]:
    """A list of objects, an object that holds one list (or one named `split`), or JSON lines; rows count from 1."""
    text = decode(file.read_bytes(), str(file))
    try:
        document = strict_json.loads(text)
    except (ValueError, RecursionError) as error:
        if isinstance(_json_object(text.lstrip().split("\n", 1)[0]), dict):
            return _json_lines(text)
        fault = Fault("JSON that cannot be read", str(error), advice="One object a line is JSON lines: .jsonl.")
        raise DataError(str(file), fault) from None
    return ((n, _object(entry)) for n, entry in enumerate(_entries(document, file, split), start=1))


def _entries(document: object, file: Path, split: str) -> Sequence[Any]:
    if isinstance(document, list):
        return document
    keys = document if isinstance(document, dict) else {}
    lists = {key: value for key, value in keys.items() if isinstance(value, list)}
    if len(lists) == 1 or split in lists:
        return next(iter(lists.values())) if len(lists) == 1 else lists[split]
    found = f"it holds the lists {', '.join(lists)}" if lists else "it holds none"
    rule = "must be a list of objects, or an object with one list"
    raise DataError(str(file), Fault(rule, found, advice="Name one by split."))


def read_csv(file: Path) -> Iterator[Numbered]:
    """Comma-, semicolon- or tab-separated text with a heading; numbers are the lines where rows begin.

    Cells stay text: "NA", "1.0" and "007" come out as they went in.
    """
    text = decode(file.read_bytes(), str(file)).rstrip("\r\n")
    # The default limit of 131,072 characters a cell is below a long conversation.
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield from _csv_rows(text, str(file))
    finally:
        csv.field_size_limit(before)


def csv_delimiter(text: str) -> str:
    """The separator that cuts the heading into most columns; a comma when it is a tie."""
    heading = text.split("\n", 1)[0]
    return max(",;\t|", key=lambda mark: len(next(csv.reader([heading], delimiter=mark), [])))


def _csv_rows(text: str, where: str) -> Iterator[Numbered]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=csv_delimiter(text), strict=True)
    heading: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            # An open quote takes in every line after it: one bad row would hide the loss of all others.
            if "unexpected end" in str(error):
                fault = Fault(
                    f"line {line}", "a quotation mark is opened and never closed", advice='Write it twice: "".'
                )
                raise DataError(where, fault) from None
            if heading is None:
                raise DataError(where, Fault("the heading", f"not CSV ({error})")) from None
            yield line, f"not CSV ({error})"
            continue
        if cells is None:
            return
        if heading is None:
            heading = heading_names(cells, where)
        elif not any(cell.strip() for cell in cells):
            yield line, {}
        elif len(cells) != len(heading):
            yield line, f"{len(cells)} cells, but the heading has {len(heading)}"
        else:
            yield line, dict(zip(heading, cells, strict=True))


def heading_names(cells: Sequence[object], where: str) -> list[str]:
    """Names of columns; one without a name is called by its place.

    Raises:
        DataError: When a name stands twice, or is no value.
    """
    if unreadable := next((cell for cell in cells if isinstance(cell, Unreadable)), None):
        raise DataError(where, Fault("the heading", unreadable.reason))
    names = [f"column {n}" if is_blank(cell) else str(cell).strip() for n, cell in enumerate(cells, start=1)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        fault = Fault(f"the heading names {twice[0]!r} twice", advice="Give every column a unique name.")
        raise DataError(where, fault)
    return names


def read_parquet(file: Path) -> Iterator[Numbered]:
    """A parquet file; numbers count the rows from 1."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise DataError(str(file), Fault("not a parquet file", first_line(error))) from None
    from tunery.data.reading.arrow import native_rows

    return enumerate(native_rows(table.to_pylist(), table.schema), start=1)
