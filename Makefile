# Set-up commands; without make: python3 tasks.py demo, python3 tasks.py test, ...
PYTHON ?= python3

.PHONY: demo test check mutants lint lock

# A real ECG from a virtual device to one of four outcomes.
demo:
	$(PYTHON) tasks.py demo

# The tests that run everywhere, in minutes.
test:
	$(PYTHON) tasks.py test

# All tests: also those that need programs, recordings and time.
check:
	$(PYTHON) tasks.py check

# Faults put into the code one by one: each must make a test fail.
mutants:
	$(PYTHON) tasks.py mutants

lint:
	.venv-test/bin/ruff check . && .venv-test/bin/ruff format --check . && .venv-test/bin/mypy && .venv-test/bin/lint-imports

# The hash-locked list that goes to clinics. Needs uv.
lock:
	uv pip compile pyproject.toml --extra edge --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o requirements/edge.txt
