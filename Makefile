# Everything runs in .venv, at the exact versions of requirements.lock. Each target first makes what it needs of it, once:
# `serve` and `demo` only the server's own packages, the others all.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: setup serve demo test test-long coverage lint check bench lock clean help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
RUN := $(VENV)/.ready-to-run
WORK := $(VENV)/.ready-to-work
SOURCES := requirements.lock setup.cfg pyproject.toml
TREES := server actors storage tests $(patsubst %/,%,$(sort $(dir $(wildcard benchmarks/*.py))))
ARGS ?=

setup: $(WORK)  ## make .venv with everything: server, tests, checks, benchmarks

serve: $(RUN)  ## serve on http://127.0.0.1:8080, data in ./data
	$(BIN)/homeroom serve --config config.toml --data ./data $(ARGS)

demo: $(RUN)  ## serve, and play a class with a teacher and students into it
	$(BIN)/homeroom demo --config config.toml --data ./data $(ARGS)

test: $(WORK)  ## run the tests; ARGS="-k chat" passes options on
	$(BIN)/python -m pytest $(ARGS)

test-long: $(WORK)  ## run the longer suites
	$(BIN)/python -m pytest -m long --timeout=900 $(ARGS)

coverage: $(WORK)  ## run the tests, and list the lines that none of them reaches
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --timeout=300 $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

lint: $(WORK)  ## format, lint, types and the direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(TREES)
	$(BIN)/lint-imports

check: lint test  ## all that a change must pass

bench: $(WORK)  ## measure beside the peers
	$(BIN)/python -m benchmarks $(ARGS)

# All platforms and Pythons in one file. ARGS=--upgrade takes newer versions; without it only what must change does.
lock: $(BIN)/python  ## write requirements.lock from setup.cfg
	$(PIP) install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-emit-index-url \
		--custom-compile-command "make lock" --output-file requirements.lock $(ARGS) setup.cfg

clean:  ## remove what was made, data/ excepted
	rm -rf $(VENV) build dist *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:  ## show this
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

# The lock constrains versions and setup.cfg chooses packages: one lock serves both.
$(RUN): $(SOURCES) | $(BIN)/python
	@echo "== installing the server into $(VENV)"
	$(PIP) install --constraint requirements.lock --editable .
	@touch $@

$(WORK): $(SOURCES) | $(BIN)/python
	@echo "== installing the server, tests, checks and benchmarks into $(VENV)"
	$(PIP) install --constraint requirements.lock --editable '.[test,check,bench]'
	@touch $@ $(RUN)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Homeroom needs Python 3.11 or later as $(PYTHON); name another with: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
		echo "$(PYTHON) comes without venv; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "== making $(VENV)"
	$(PYTHON) -m venv --clear $(VENV)
