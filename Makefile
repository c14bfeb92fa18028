# Two commands; without make: python3 tasks.py demo, python3 tasks.py test.
PYTHON ?= python3

.PHONY: demo test lint lock

demo:
	$(PYTHON) tasks.py demo

test:
	$(PYTHON) tasks.py test

lint:
	.venv-test/bin/ruff check . && .venv-test/bin/ruff format --check . && .venv-test/bin/mypy && .venv-test/bin/lint-imports

# The hash-locked list that goes to clinics. Needs uv.
lock:
	uv pip compile pyproject.toml --extra edge --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o requirements/edge.txt
