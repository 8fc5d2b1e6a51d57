# What a developer types; `make help` lists it. CI types the same (.ci/run).

VENV := .venv
PYTHON ?= python3
RUN := $(VENV)/bin/python
MODEL := smollm2-135m

.DEFAULT_GOAL := help
.PHONY: help setup lock model app browser test test-lowest test-latest check format bench

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.ready ## make .venv with everything in it; does nothing when it is up to date

# A virtual environment, made by a Python that is new enough.
%/bin/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("npt_viz needs Python 3.11 or newer and $(PYTHON) is " + sys.version.split()[0] + "; name another: make setup PYTHON=python3.12")'
	$(PYTHON) -m venv $*

# The stamp is newer than the ranges and the lock it was made from.
$(VENV)/.ready: pyproject.toml constraints.txt | $(RUN)
	$(RUN) -m pip install -c constraints.txt -e ".[dev]"
	@touch $@

# uv reads metadata and installs nothing.
RESOLVE = $(RUN) -m uv pip compile --quiet --upgrade --universal --python-version 3.11 --fork-strategy fewest \
	--all-extras --no-annotate --custom-compile-command "make lock" pyproject.toml

lock: | $(RUN) ## renew the lock (constraints.txt) and the lower ends of the ranges (constraints-lowest.txt)
	$(RUN) -m pip install --quiet uv
	$(RESOLVE) --output-file constraints.txt
	$(RESOLVE) --resolution lowest-direct --output-file constraints-lowest.txt

model: setup ## put the demo base model on this machine (90 MB, once)
	$(RUN) -m npt_viz model $(MODEL)

app: setup ## open the app; PORT=8502 for another port
	@$(RUN) -m npt_viz model $(MODEL) || echo "The app opens without the demo model; its Home page says how to get it."
	$(RUN) -m npt_viz app $(if $(PORT),--port $(PORT))

BROWSERS := chromium chromium-browser google-chrome

browser: ## have a Chromium for the browser tests
	@for name in $(BROWSERS); do command -v $$name > /dev/null && exit 0; done; \
	if command -v apt-get > /dev/null && [ "$$(id -u)" = 0 ]; then \
		apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium; \
	else \
		echo "No Chromium found: install one of $(BROWSERS) to run the browser tests." >&2; exit 1; \
	fi

test: setup ## run every test; ARGS="-m 'not slow and not browser'" runs the quick ones
	@$(RUN) -m npt_viz model $(MODEL) || echo "Tests that need the demo model will be skipped."
	@$(MAKE) --no-print-directory browser || echo "Browser tests will be skipped."
	HF_HUB_OFFLINE=1 $(RUN) -m pytest -q -rs -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

# Away from the lock a deprecation between libraries is reported; every other warning stays an error.
ELSEWHERE = -m pytest -q -rs $(DEPRECATIONS:%=-W default::%) $(or $(ARGS),-m "not slow and not browser")
DEPRECATIONS := DeprecationWarning PendingDeprecationWarning FutureWarning

.venv-lowest/.ready: pyproject.toml constraints-lowest.txt | .venv-lowest/bin/python
	.venv-lowest/bin/python -m pip install -c constraints-lowest.txt -e ".[dev]"
	@touch $@

test-lowest: .venv-lowest/.ready ## run the quick tests at the lower end of every range; others by ARGS
	HF_HUB_OFFLINE=1 .venv-lowest/bin/python $(ELSEWHERE)

test-latest: | .venv-latest/bin/python ## run the quick tests at the newest versions of every range; others by ARGS
	.venv-latest/bin/python -m pip install --upgrade --upgrade-strategy eager -e ".[dev]"
	HF_HUB_OFFLINE=1 .venv-latest/bin/python $(ELSEWHERE)

check: setup ## formatting, lint and types; changes nothing
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m pyright

format: setup ## format the code and fix what the linter can
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

# Trainings that take an hour are run by name: benchmarks.defaults, variants_trained, specimens and health.
BENCHMARKS = $(filter-out defaults variants_trained,$(patsubst %.py,%,$(notdir $(shell grep -l '^def main' benchmarks/*.py))))

bench: model ## print every benchmark's table
	@for name in $(BENCHMARKS); do echo "== $$name"; $(RUN) -m benchmarks.$$name || exit 1; echo; done
