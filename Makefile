# Everything runs in .venv, which `make setup` builds from requirements.lock; each target sets it up first.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

export UV_NO_PROGRESS = 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS = 1

RUN := .venv/bin
READY := .venv/.ready
LOCK := $(RUN)/uv pip compile --quiet --universal --fork-strategy fewest --generate-hashes --no-emit-index-url
FAST := not slow and not gpu

.PHONY: help setup demo test test-slow test-gpu lint format bench docs lock clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## set up .venv with the rollcall command

# uv comes with pip, at the version and hash of the lock; the rest comes with uv, which is many times faster, or with pip
# where only pip knows the way to a package index.
$(READY): requirements.lock pyproject.toml
	@wanted='import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))'; \
	  $(RUN)/python -c "$$wanted" 2>/dev/null || { \
	    python=$$(type -aP python3 python python3.11 python3.12 | while read -r name; do \
	      "$$name" -c "$$wanted" 2>/dev/null </dev/null && echo "$$name" && break; \
	    done || true); \
	    test "$$python" || { echo "Python 3.11 or 3.12 with its module venv is needed and was not found on the PATH" >&2; exit 1; }; \
	    "$$python" -m venv --clear .venv; }
	@awk '/^[^ #]/ {found = /^uv==/} found' requirements.lock > .venv/uv.lock
	@$(RUN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r .venv/uv.lock
	$(RUN)/uv pip sync --quiet --compile-bytecode --python $(RUN)/python --require-hashes requirements.lock \
	  || $(RUN)/python -m pip install --quiet --no-deps --require-hashes -r requirements.lock
	$(RUN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY) ## process a clip that it makes itself, under out/demo
	$(RUN)/rollcall demo

# Each process takes 1 to 2 GB. The slow tests time things and kill Ray, so they run one after the other.
test: $(READY) ## run the tests
	$(RUN)/pytest -m "$(FAST)" -n logical --maxprocesses 4 --dist worksteal

test-slow: $(READY) ## run the tests that take minutes
	$(RUN)/pytest -m "slow and not gpu"

test-gpu: $(READY) ## run the tests that need a GPU
	$(RUN)/pytest -m gpu

lint: $(READY) ## check style and types
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/pyright

format: $(READY) ## put the code into its format
	$(RUN)/ruff check --fix .
	$(RUN)/ruff format .

bench: $(READY) ## measure the price of the engines and the start-up: CLIP=FILE, and CONFIG=FILE for other models
	$(RUN)/rollcall bench overhead $(if $(CLIP),--clip $(CLIP)) $(if $(CONFIG),--config $(CONFIG))

docs: $(READY) ## make the pages of docs/ that come from the code
	$(RUN)/python -m pipeline.tables_page > docs/tables.md
	$(RUN)/python -m jobs.cli.commands_page > docs/commands.md
	$(RUN)/python -m jobs.benchmarks.page > docs/benchmarks/tables.md

# One version of a package for every Python: otherwise Python 3.12 has other pixels and numbers than 3.11.
# infra/requirements.lock is the part of it that a container needs.
lock: ## resolve pyproject.toml anew into requirements.lock
	$(LOCK) --extra dev pyproject.toml -o requirements.lock
	$(LOCK) --constraint requirements.lock pyproject.toml -o infra/requirements.lock

clean: ## remove .venv and caches
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis *.egg-info
