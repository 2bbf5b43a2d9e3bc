.PHONY: check test slow format

check:  ## format, lint, types, layers
	ruff format --check .
	ruff check .
	mypy
	lint-imports

test:  ## the tests that the README names
	pytest

slow:  ## minutes long
	pytest -m slow

format:
	ruff format .
	ruff check --fix .
