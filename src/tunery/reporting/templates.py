"""Fills the Markdown templates that lie beside the modules which know what goes in."""

from __future__ import annotations

from functools import lru_cache

from jinja2 import Environment, PackageLoader


def markdown(package: str, template: str, **values: object) -> str:
    """A page from `template` in the folder of `package`; it ends with one line break."""
    return _templates(package).get_template(template).render(**values).rstrip() + "\n"


@lru_cache
def _templates(package: str) -> Environment:
    loader = PackageLoader(package, ".")
    return Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
