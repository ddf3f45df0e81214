# Two commands do everything on a machine with python3 (3.11 or newer), its venv module and make:
#   make demo    a busy minute: callers give up, agents get free, clients are called back
#   make test    all tests, on SQLite and PostgreSQL
# `make chaos` is the fault suite: within an hour, or with CHAOS=short within ten minutes.
# `make test-live FREESWITCH=/path/to/freeswitch` plays it on a real FreeSWITCH 1.10, within ten minutes.
# `make bench` measures, best on a machine that does nothing else; BENCH=events,start chooses.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?=
CHAOS ?= full
CHAOS_SEED ?= 1
CHAOS_TABLE ?=
FREESWITCH ?=
LIVE ?=
BENCH ?=
BENCH_JSON ?=

.PHONY: demo test test-day test-the-rest test-live chaos bench lint types imports check clean

demo: $(VENV)/.installed
	$(BIN)/freeswitch-callback demo $(DEMO)

# All of it, or what TESTS names. The long day runs beside the rest: a machine has two cores at least.
A_DAY := tests/acceptance/test_a_day.py
ifdef TESTS
test: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(TESTS)
else
test: $(VENV)/.installed-test
	+$(MAKE) --no-print-directory -j2 test-day test-the-rest
endif

test-day: $(VENV)/.installed-test
	$(BIN)/python -m pytest -q $(A_DAY)

test-the-rest: $(VENV)/.installed-test
	$(BIN)/python -m pytest --ignore $(A_DAY)

test-live: $(VENV)/.installed-test
	$(BIN)/python -W ignore -m tests.live --freeswitch "$(FREESWITCH)" $(if $(LIVE),--only "$(LIVE)")

chaos: $(VENV)/.installed-test
	$(BIN)/python -W ignore -m tests.chaos --seed $(CHAOS_SEED) $(if $(filter short,$(CHAOS)),--short) \
		$(if $(CHAOS_TABLE),--table $(CHAOS_TABLE))

bench: $(VENV)/.installed-test
	$(BIN)/python -W ignore -m tests.bench $(if $(BENCH),--rows $(BENCH)) $(if $(BENCH_JSON),--json $(BENCH_JSON))

check: lint types imports

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-lint
	$(BIN)/mypy

imports: $(VENV)/.installed-lint
	$(BIN)/lint-imports

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: setup.cfg setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-test: setup.cfg setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

$(VENV)/.installed-lint: setup.cfg setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,lint]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
