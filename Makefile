# Command Tower. Needs Python >= 3.11 with pip or venv; everything else comes from the lock.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
UV_VERSION := 0.13.9
UV := .tools/bin/uv
PY := .venv/bin/python

.PHONY: help setup run test test-browser test-sqlite test-postgres chromium lint audit screenshots bench clean

help:
	@echo "make setup        the environment in .venv, from the lock"
	@echo "make run          everything on http://127.0.0.1:8000, with simulated actors at work"
	@echo "make test         the whole suite, on SQLite and on PostgreSQL, browser included"
	@echo "make lint         ruff and mypy"
	@echo "make audit        known holes in what is locked (asks a service)"
	@echo "make screenshots  the pictures of the documentation, and all pages to look at"
	@echo "make bench        measurements, as ratios"

setup: .venv/locked

.venv/locked: uv.lock pyproject.toml | $(UV)
	UV_PYTHON_DOWNLOADS=never $(UV) sync --locked --quiet --python $(PYTHON)
	@touch $@

# Beside .venv, since a sync removes from there what is not locked. `pip --target` needs no venv module.
$(UV):
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none was found (set PYTHON=...)." >&2; exit 1; }
	@if $(PYTHON) -m pip --version >/dev/null 2>&1; then \
		PIP_ROOT_USER_ACTION=ignore $(PYTHON) -m pip install --quiet --target .tools uv==$(UV_VERSION); \
	else \
		$(PYTHON) -m venv .tools && .tools/bin/python -m pip install --quiet uv==$(UV_VERSION); \
	fi

run: setup
	@exec $(PY) manage.py up --demo

# Each part has servers and folders of its own: `make --jobs 2 test` runs two at a time.
test: test-browser test-sqlite test-postgres

test-browser: setup chromium
	$(PY) -m pytest -m browser

test-sqlite: setup
	$(PY) -m pytest -m "not browser"

# What does not touch a database has been run once already, and so has the browser.
test-postgres: setup
	$(PY) -m tests.servers $(PY) -m pytest -m "database and not browser"

chromium: setup
	@command -v chromium >/dev/null \
	|| { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
	     && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; } \
	|| $(PY) -m playwright install chromium

lint: setup
	$(PY) -m ruff check .
	$(PY) -m mypy .

audit: setup
	$(UV) export --locked --quiet --no-emit-project --output-file .tools/requirements.txt
	$(UV) tool run pip-audit==2.9.0 --require-hashes --disable-pip --requirement .tools/requirements.txt

screenshots: setup chromium
	$(PY) -m docs.screenshots.make
	$(PY) -m docs.screenshots.gallery

bench: setup
	$(PY) -m bench.register --postgres
	$(PY) -m bench.ingest
	$(PY) -m bench.control --postgres
	$(PY) -m bench.reads --postgres
	$(PY) -m bench.runs
	$(PY) -m bench.faults

clean:
	rm -rf .venv .tools
