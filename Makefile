# make run: the dashboard on embedded servers.  make test: all tests.  make check: lint, types, layering.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PIP    := $(BIN)/python -m pip --disable-pip-version-check
TIMES  ?= 10
RESOLVE = $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
	--custom-compile-command "make lock"

.PHONY: help run test burn-in check format lock clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one, for instance: make PYTHON=python3.12 run"; exit 1; }
	@echo "setting up $(VENV) …"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --quiet --require-hashes -r requirements-dev.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

run: $(STAMP) ## the dashboard, with embedded servers and sample jobs
	@$(BIN)/couturecast-tui --demo

test: $(STAMP) ## all tests, then the life cycle of a job again and again (TIMES=10)
	$(BIN)/python -m pytest
	@$(MAKE) --no-print-directory burn-in

burn-in: $(STAMP) ## the life-cycle tests, TIMES times over: one that fails once is a defect
	for n in $$(seq 2 $(TIMES)); do \
		echo "life cycle, $$n of $(TIMES)"; $(BIN)/python -m pytest -q -m lifecycle -p no:cacheprovider || exit 1; \
	done

check: $(STAMP) ## lint, format, strict types, import layering
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## put the source in its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: ## resolve the newest versions that fit: requirements.lock for the program, requirements-dev.lock for all
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet uv
	$(RESOLVE) --upgrade -o requirements.lock pyproject.toml
	$(RESOLVE) --upgrade -c requirements.lock --group dev --group build -o requirements-dev.lock pyproject.toml

clean: ## remove what make built
	rm -rf $(VENV) build dist
