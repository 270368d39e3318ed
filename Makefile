# make run: the dashboard on embedded servers.  make test: the quick tests.  make test-all: all tests, as CI runs
# them.  make check: lint, types, layering.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PIP    := $(BIN)/python -m pip --disable-pip-version-check
TIMES  ?= 9
WORKERS ?= 6
CHAOS  ?= 10
RESOLVE = $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
	--custom-compile-command "make lock"
EXTRAS := --extra notify --extra web
COMMA := ,

PYTEST := $(BIN)/python -m pytest
IN_CI  := COUTURECAST_TEST_HYPOTHESIS=ci COUTURECAST_TEST_FORK=slow

BENCH      := tests/benchmarks
BENCH_VENV := .venv-bench
INSTALLED  := $(BENCH_VENV)/arq/.installed $(BENCH_VENV)/taskiq/.installed $(BENCH_VENV)/streaq/.installed \
	$(if $(and $(shell command -v node),$(shell command -v npm)),$(BENCH)/bullmq/node_modules/.installed)

# Without compiled modules each of the test processes compiles all of them again.
test test-all burn-in: export PYTHONDONTWRITEBYTECODE =

PROMETHEUS := .tools/prometheus/usr/bin/promtool
CHROMIUM   := .tools/chromium/usr/lib/chromium/chromium-headless-shell

.PHONY: help run test test-unit test-otel test-all burn-in chaos incidents check format bench bench-compare bench-letters bench-dashboard bench-cache bench-scaling monitoring \
	keys screenshots prometheus chromium lock clean
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

test: $(STAMP) ## the quick tests, on real servers: every promise has some (WORKERS=6)
	$(PYTEST) -n $(WORKERS) --dist worksteal -m "not slow"

test-unit: $(STAMP) ## the tests without servers, for instance on another Python (PYTHON=python3.13 VENV=.venv-3.13)
	$(PYTEST) -q -n $(WORKERS) tests/unit

# In an environment of its own: redis-py imports all of OpenTelemetry if it is installed, which every start of the
# program would pay for.
test-otel: ## the tests of tracing, with the extra
	@$(MAKE) --no-print-directory VENV=.venv-otel .venv-otel/.installed
	@.venv-otel/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r requirements-otel.lock
	.venv-otel/bin/python -m pytest -q tests/integration/workers/engine/test_tracing.py tests/acceptance/test_tracing.py

test-all: $(STAMP) ## what CI does: all tests, with random inputs, then the burn-in (WORKERS=6)
	$(IN_CI) $(PYTEST) -n $(WORKERS) --dist worksteal
	@$(MAKE) --no-print-directory -j2 burn-in test-otel

burn-in: $(STAMP) ## the life-cycle tests, TIMES times over: one that fails once is a defect (TIMES=9 WORKERS=6)
	$(PYTEST) -q -m lifecycle --count $(TIMES) -n $(WORKERS) --dist load tests/integration/workers/engine

chaos: $(STAMP) ## kill, freeze and cut off processes and servers under load, for minutes (CHAOS=10)
	COUTURECAST_TEST_CHAOS=$(CHAOS) $(PYTEST) -q tests/chaos

incidents: $(STAMP) ## provoke each alert on real servers, and see it fire and end on every surface, for ten minutes
	@$(MAKE) --no-print-directory prometheus || echo "without Prometheus: not to be had on this machine"
	COUTURECAST_TEST_INCIDENTS=1 $(PYTEST) -q -n 2 --dist load tests/acceptance/test_incidents.py

check: $(STAMP) ## lint, format, strict types, import layering
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## put the source in its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) $(INSTALLED) ## us and our peers, in turn (ROWS=no-op-10,pickup PEERS=ours,saq RUNS=3 JOBS=10000 IDLE=60 JSON=FILE)
	@$(BIN)/python -m tests.benchmarks $(if $(ROWS),--rows=$(ROWS)) $(if $(PEERS),--peers=$(PEERS)) \
		$(if $(RUNS),--runs=$(RUNS)) $(if $(JOBS),--jobs=$(JOBS)) $(if $(IDLE),--idle-seconds=$(IDLE)) \
		$(if $(JSON),--json=$(JSON))

bench-compare: $(STAMP) ## two files of make bench JSON=FILE, side by side (OLD=FILE NEW=FILE)
	@$(BIN)/python -m tests.benchmarks.record $(OLD) $(NEW)

bench-scaling: $(STAMP) ## what jobs, letters, processes and dashboards cost the server (PARTS=jobs,sizes,processes PROCESSES=1,5,50,500)
	@$(BIN)/python -m tests.benchmarks.scaling $(if $(PARTS),--parts=$(PARTS)) $(if $(JOBS),--jobs=$(JOBS)) \
		$(if $(PROCESSES),--processes=$(PROCESSES))

bench-dashboard: $(STAMP) ## the dashboard: keys, first frame, processor, memory, throughput (LETTERS=1000000 ROWS=… RUNS=3 IDLE=60)
	@$(BIN)/python -m tests.benchmarks --peers=ours \
		--rows=$(if $(ROWS),$(ROWS),first-frame,keys-at-rest,keys-no-op,keys-sqlite,keys-postgres,cpu,memory,dashboard) \
		$(if $(RUNS),--runs=$(RUNS)) $(if $(JOBS),--jobs=$(JOBS)) $(if $(IDLE),--idle-seconds=$(IDLE)) \
		$(if $(LETTERS),--letters=$(LETTERS))

bench-letters: $(STAMP) ## the dead letters' screens over a million rows (LETTERS=1000000 DATABASE=both)
	@$(BIN)/python -m tests.benchmarks.letters $(if $(LETTERS),--rows=$(LETTERS)) \
		$(if $(DATABASE),--database=$(DATABASE))

bench-cache: $(STAMP) $(BENCH_VENV)/cache/.installed ## our cache and the libraries that it was weighed against, in turn
	@$(BIN)/python -m tests.benchmarks.cache

$(BENCH_VENV)/%/.installed: $(BENCH)/requirements/%.lock
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r $<
	@touch $@

$(BENCH)/bullmq/node_modules/.installed: $(BENCH)/bullmq/package-lock.json
	@cd $(BENCH)/bullmq && npm ci --ignore-scripts --no-audit --no-fund --silent
	@touch $@

monitoring: $(STAMP) ## docs/monitoring and the tables of docs/monitoring.md, made from the code
	@$(BIN)/python -m tests.support.monitoring_files

screenshots: $(STAMP) ## the pictures of docs/images, of a living system with something wrong (PICTURES=overview,jobs)
	@$(BIN)/python -m tests.support.pictures $(if $(PICTURES),$(subst $(COMMA), ,$(PICTURES)))

keys: $(STAMP) ## docs/keys.md, made from the bindings of the dashboard
	@$(BIN)/python -m tests.support.keys_page

prometheus: $(PROMETHEUS) ## Prometheus and promtool for the tests that need them, from Debian's package, not installed

$(PROMETHEUS):
	@mkdir -p .tools/prometheus
	@cd .tools/prometheus && { apt-get download prometheus || { apt-get update && apt-get download prometheus; }; }
	@cd .tools/prometheus && dpkg -x prometheus_*.deb . && rm prometheus_*.deb

chromium: $(CHROMIUM) ## a headless Chromium for the test in a browser, from Debian's packages, not installed

$(CHROMIUM):
	@mkdir -p .tools/chromium/packages/partial
	@fetch() { apt-get install --yes --quiet=2 --download-only --no-install-recommends \
		-o Dir::Cache::archives="$(CURDIR)/.tools/chromium/packages" chromium-headless-shell fonts-dejavu-core; }; \
		fetch || { apt-get update && fetch; }
	@cd .tools/chromium && for package in packages/*.deb; do dpkg -x "$$package" . || exit 1; done
	@rm -r .tools/chromium/packages

lock: ## resolve the newest versions that fit: of the program, of what its development needs, of the peers
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet uv
	$(RESOLVE) --upgrade $(EXTRAS) -o requirements.lock pyproject.toml
	$(RESOLVE) --upgrade -c requirements.lock --extra otel $(EXTRAS) -o requirements-otel.lock pyproject.toml
	$(RESOLVE) --upgrade -c requirements.lock --group dev --group build $(EXTRAS) \
		-o requirements-dev.lock pyproject.toml
	for peer in arq taskiq streaq cache; do \
		$(RESOLVE) --upgrade -o $(BENCH)/requirements/$$peer.lock $(BENCH)/requirements/$$peer.in || exit 1; \
	done
	cd $(BENCH)/bullmq && npm update --package-lock-only --no-audit --no-fund

clean: ## remove what make built
	rm -rf $(VENV) .venv-3.* .venv-otel $(BENCH_VENV) .tools $(BENCH)/bullmq/node_modules build dist
