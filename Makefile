# One command each: run, test, check, bench. Each sets up .venv by itself when it is missing or out of date.
#
#   make run ARGS="--rate 20000 --kill every=5s"
#   make bench ARGS="latency restart"

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
ARGS ?=

.PHONY: run test check bench format clean

run: $(VENV)/.run-ready
	@exec $(BIN)/lockstep devnet $(ARGS)

bench: $(VENV)/.run-ready
	@exec $(BIN)/lockstep bench $(ARGS)

test: $(VENV)/.dev-ready
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.dev-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py

format: $(VENV)/.dev-ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "lockstep needs Python 3.11 or newer; choose one with: make run PYTHON=python3.12" >&2; exit 2; }
	@echo "setting up $(VENV) (once; a minute or two without cached packages)"
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run-ready: requirements.txt pyproject.toml | $(BIN)/python
	$(PIP) install -r requirements.txt
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev-ready: requirements-dev.txt $(VENV)/.run-ready
	$(PIP) install -r requirements-dev.txt
	@touch $@
