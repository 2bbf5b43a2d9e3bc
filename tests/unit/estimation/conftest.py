"""Small models of the tests of `models`, for what the estimate says of them."""

from __future__ import annotations

from tests.unit.models.conftest import _one_thread, llama, mixtral, tied_llama

__all__ = ["_one_thread", "llama", "mixtral", "tied_llama"]
