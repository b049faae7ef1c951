# make book, test, test-peers, test-browser, verify, serve: each sets up what it needs.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PEERS := .venv-peers/bin
# make book SOLUTIONS=0: a second site, for teachers, without the exercises' solutions
SOLUTIONS ?= 1
PLACE := $(if $(filter 0,$(SOLUTIONS)),_build/without-solutions,.)
SITE := _build/html/index.html
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: book test test-peers test-browser verify serve clean setup
.DEFAULT_GOAL := book

setup: .venv/.ready

.venv/.ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Reprise needs Python 3.11 or later: install it, or name one with make PYTHON=/path/to/python3"; exit 1; }
	@echo "Setting up .venv (once; about a minute) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q -r requirements.txt
	@$(BIN)/python -m pip install -q --no-deps -e .
	@touch $@

book: .venv/.ready  ## execute stale chapters, build the site, print where it is
	@$(BIN)/reprise run
	@REPRISE_SOLUTIONS=$(SOLUTIONS) $(BIN)/jupyter-book build . --path-output $(PLACE) -W --keep-going -q
	@echo "The book is at file://$(abspath $(PLACE)/$(SITE))"

test: .venv/.ready  ## lint, import rules, tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/pytest -q -n 2

verify: .venv/.ready  ## every chapter again, compared with the committed evidence
	@$(BIN)/reprise verify

.venv-peers/.ready: tests/peers/requirements.txt tests/peers/requirements-no-deps.txt requirements.txt pyproject.toml
	@echo "Setting up .venv-peers, the public libraries that tests compare with (once; about a minute) ..."
	@test -x $(PEERS)/python || $(PYTHON) -m venv .venv-peers
	@$(PEERS)/python -m pip install -q -r tests/peers/requirements.txt
	@$(PEERS)/python -m pip install -q --no-deps -r tests/peers/requirements-no-deps.txt
	@$(PEERS)/python -m pip install -q --no-deps -e .
	@touch $@

test-peers: .venv-peers/.ready  ## parity with public libraries, in an environment of their own
	@$(PEERS)/python -m pytest -q tests/peers

test-browser: .venv/.ready  ## the built site in a real browser
	@test -f $(SITE) || $(MAKE) book
	@command -v chromium chromedriver > /dev/null || { \
	  echo "Installing chromium and its driver ..."; \
	  { apt-get update -qq && apt-get install -y -qq chromium chromium-driver; } > /dev/null || \
	  { echo "Install chromium and chromedriver with your system's package manager, then run make test-browser again."; exit 1; }; }
	@$(BIN)/python -m pytest -q tests/browser

serve: .venv/.ready  ## build and open with live reload
	@$(BIN)/jupyter-book config sphinx . > /dev/null
	@$(BIN)/sphinx-autobuild . _build/html --open-browser --pre-build "$(BIN)/reprise run" --watch book \
	  --ignore "*/notebooks/*" --ignore "*/_build/*" --ignore "*/.venv*" --ignore "*/conf.py"

clean:
	rm -rf _build
