# Two commands do everything on a machine with python3 (3.11 or newer), its venv module and make:
#   make demo    a busy minute: callers give up, agents get free, clients are called back
#   make test    all tests, on SQLite and PostgreSQL
# `make chaos` is the fault suite: within an hour, or with CHAOS=short within ten minutes.
# `make install` installs the program, its units, man pages and completions below PREFIX; DESTDIR is put before all
# paths, for who builds a package. `make wheel` and `make docs` build what their names say.
# `make test-live FREESWITCH=/path/to/freeswitch` plays it on a real FreeSWITCH 1.10, within ten minutes.
# `make bench` measures, within ten minutes or so, best on a machine that does nothing else; BENCH=events,start chooses,
# BENCH=all is half an hour.
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

PREFIX ?= /usr/local
DESTDIR ?=
# Where units, users and folders are looked for: /usr/lib below /usr, else below PREFIX, as in /usr/local/lib.
UNITS := $(PREFIX)/lib/systemd/system
SYSTEMD ?= $(or $(shell systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p'),255)
# Type=notify-reload is there from systemd 253 on.
OLDER := $(shell test $(SYSTEMD) -ge 253 || echo yes)
UNIT_FOR_OLDER := $(if $(OLDER),-e 's|^Type=notify-reload$$|Type=notify\nExecReload=/bin/kill -HUP $$MAINPID|')
PIP_OPTIONS ?=

.PHONY: demo test test-days test-pages test-the-rest test-live chaos bench lint types imports check clean docs man wheel install uninstall

demo: $(VENV)/.installed
	$(BIN)/freeswitch-callback demo $(DEMO)

# All of it, or what TESTS names. In three parts that take as long as each other: much of a test is waiting, and a
# machine has two cores at least.
ACCEPTANCE := tests/acceptance
DAYS := $(ACCEPTANCE)/test_a_day.py $(ACCEPTANCE)/test_tutorial.py $(ACCEPTANCE)/test_commands_gates.py \
	$(ACCEPTANCE)/test_calling_back.py tests/integration/ledger
PAGES := $(ACCEPTANCE)/test_pages.py $(ACCEPTANCE)/test_pages_apart.py $(ACCEPTANCE)/test_web.py tests/integration/web
ifdef TESTS
test: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(TESTS)
else
test: $(VENV)/.installed-test
	+$(MAKE) --no-print-directory -j3 test-days test-pages test-the-rest
endif

test-days: $(VENV)/.installed-test
	$(BIN)/python -m pytest -q $(DAYS)

test-pages: $(VENV)/.installed-test
	$(BIN)/python -m pytest -q $(PAGES)

test-the-rest: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(DAYS:%=--ignore %) $(PAGES:%=--ignore %)

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

$(VENV)/.installed-docs: setup.cfg setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	@touch $@

$(VENV)/.installed-lint: setup.cfg setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,lint]'
	@touch $@

# In docs/_build/html; a warning is an error. All of it anew: what is written from the code changes with the code.
docs: $(VENV)/.installed-docs
	$(BIN)/sphinx-build -q -E -W --keep-going -b html docs docs/_build/html

man: $(VENV)/.installed-docs
	$(BIN)/python docs/man.py build/man

wheel: $(BIN)/python
	rm -rf build/lib build/bdist.*
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --use-pep517 --no-deps \
		$(PIP_OPTIONS) --wheel-dir dist .

# A venv of its own, whose scripts know the path that it will have without DESTDIR.
PROGRAM := $(PREFIX)/lib/freeswitch-callback
HERE := $(DESTDIR)$(PREFIX)
install: man wheel
	$(PYTHON) -m venv --clear $(DESTDIR)$(PROGRAM)
	$(DESTDIR)$(PROGRAM)/bin/python -I -m pip install --quiet --disable-pip-version-check $(if $(DESTDIR),--no-compile) $(PIP_OPTIONS) \
		"$$(ls -t dist/freeswitch_callback-*.whl | head -1)"
	sed -i 's|$(DESTDIR)$(PROGRAM)|$(PROGRAM)|g' $$(grep -rlI '$(DESTDIR)$(PROGRAM)' $(DESTDIR)$(PROGRAM)/bin) \
		$(DESTDIR)$(PROGRAM)/pyvenv.cfg
	install -d $(HERE)/bin && ln -sf $(PROGRAM)/bin/freeswitch-callback $(HERE)/bin/freeswitch-callback
	install -d $(HERE)/share/man/man1 && install -m 644 build/man/*.1 $(HERE)/share/man/man1
	for shell in bash:bash-completion/completions/freeswitch-callback zsh:zsh/site-functions/_freeswitch-callback \
		fish:fish/vendor_completions.d/freeswitch-callback.fish; do \
		file=$(HERE)/share/$${shell#*:}; install -d $${file%/*}; \
		_FREESWITCH_CALLBACK_COMPLETE=$${shell%%:*}_source $(BIN)/freeswitch-callback >$$file || exit 1; done
	install -d $(DESTDIR)$(UNITS) $(HERE)/lib/sysusers.d $(HERE)/lib/tmpfiles.d
	for unit in systemd/*.service systemd/*.timer; do \
		sed -e 's|^ExecStart=/usr/local|ExecStart=$(PREFIX)|' $(UNIT_FOR_OLDER) $$unit \
			>$(DESTDIR)$(UNITS)/$${unit#systemd/} || exit 1; done
	install -m 644 systemd/freeswitch-callback.sysusers $(HERE)/lib/sysusers.d/freeswitch-callback.conf
	install -m 644 systemd/freeswitch-callback.tmpfiles $(HERE)/lib/tmpfiles.d/freeswitch-callback.conf
	install -d $(HERE)/share/doc/freeswitch-callback
	$(BIN)/freeswitch-callback config example >$(HERE)/share/doc/freeswitch-callback/config.toml
	install -m 644 README.rst CHANGELOG.rst $(HERE)/share/doc/freeswitch-callback
	install -d $(HERE)/share/doc/freeswitch-callback/dialplan
	install -m 644 dialplan/*.xml $(HERE)/share/doc/freeswitch-callback/dialplan

# All that `install` wrote. The configuration, the state and the user stay.
uninstall:
	rm -rf $(DESTDIR)$(PROGRAM) $(HERE)/bin/freeswitch-callback $(HERE)/share/doc/freeswitch-callback \
		$(HERE)/share/man/man1/freeswitch-callback.1 $(HERE)/share/man/man1/freeswitch-callback-*.1 \
		$(HERE)/share/bash-completion/completions/freeswitch-callback \
		$(HERE)/share/zsh/site-functions/_freeswitch-callback \
		$(HERE)/share/fish/vendor_completions.d/freeswitch-callback.fish \
		$(DESTDIR)$(UNITS)/freeswitch-callback*.service $(DESTDIR)$(UNITS)/freeswitch-callback*.timer \
		$(HERE)/lib/sysusers.d/freeswitch-callback.conf $(HERE)/lib/tmpfiles.d/freeswitch-callback.conf

clean:
	rm -rf $(VENV) build dist docs/_build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
