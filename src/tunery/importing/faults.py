"""Files that are no result files, which a folder may hold, and broken result files, which are always a fault."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunery.errors import Fault, InputError

# What reading a tree raises where a part of it is of another type than its writer gives it.
_MALFORMED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError)


class NotAResultFile(InputError):
    """The file cannot be read as results; a fault where it was named, and passed over in a folder."""


class UnrelatedFile(NotAResultFile):
    """The file is whole, and of another kind: a model's config.json beside its results."""


@contextmanager
def well_formed(file: Path) -> Iterator[None]:
    """Tell of a result file whose parts are not what they should be.

    Raises:
        InputError: Instead of what reading it raised.
    """
    try:
        yield
    except _MALFORMED as error:
        fault = f"a part of it is not what it must be ({type(error).__name__}: {error})"
        raise InputError(str(file), Fault(fault, advice="Write the file again, or leave it out.")) from error
