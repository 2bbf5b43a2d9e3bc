"""Fills the Markdown templates that lie beside the modules which know what goes in."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader


def markdown(package: str, template: str, **values: object) -> str:
    """A page from `template` in the folder of `package`; it ends with one line break."""
    loader = PackageLoader(package, ".")
    templates = Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    return templates.get_template(template).render(**values).rstrip() + "\n"
