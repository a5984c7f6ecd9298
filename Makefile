# Python >= 3.11 and make are all that demo and setup need; test also wants Java >= 17, Maven and Chromium.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test lint types unit services services-down bench lock generate clean

setup: .venv/installed

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: setup
	$(BIN)/detector demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: setup
	$(BIN)/mypy

test: lint types services
	$(BIN)/pytest

services: setup
	$(BIN)/python -m tests.services.services up

services-down: setup
	$(BIN)/python -m tests.services.services down

# Each part prints its figures, whatever an earlier one missed; a target that was missed fails the whole at the end.
bench: setup
	@missed=0; for part in tests.bench.methods tests.bench.rules tests.bench; do \
		$(BIN)/python -m $$part || missed=1; \
	done; exit $$missed

# What is derived from the code and kept beside it; a test fails when it is stale.
generate: setup
	$(BIN)/python -m detector.sinks.template > deploy/elasticsearch/index-template.json
	$(BIN)/detector config init > deploy/detector.toml
	$(BIN)/python -m detector.sigma.docs > docs/rules.md
	$(BIN)/python -m tests.golden

# Needs uv on the PATH.
lock:
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-annotate \
		--no-header --no-emit-index-url --no-emit-find-links --quiet --output-file requirements.lock

clean:
	rm -rf .venv out .mypy_cache .ruff_cache .pytest_cache .hypothesis
