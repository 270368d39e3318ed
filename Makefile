# make run: the dashboard on embedded servers.  make test: all tests.  make check: lint, types, layering.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: run test check format lock bench clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: $(STAMP) ## the dashboard, with embedded servers and sample jobs
	@$(BIN)/couturecast-tui --demo

test: $(STAMP) ## unit, integration on real servers, life cycle ten times over, screens
	$(BIN)/python -m pytest

check: $(STAMP) ## lint, format, strict types, import layering
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## put the source in its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: ## resolve the newest versions that fit into requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --upgrade --generate-hashes --no-emit-index-url --python-version 3.11 \
		--group dev --group build --custom-compile-command "make lock" -o requirements.lock pyproject.toml

clean: ## remove what make built
	rm -rf $(VENV) build dist
