# What a developer types; `make help` lists it. CI types the same (.ci/run).

VENV := .venv
PYTHON ?= python3
RUN := $(VENV)/bin/python
MODEL := smollm2-135m

.DEFAULT_GOAL := help
.PHONY: help setup model app browser test check format bench

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.ready ## make .venv with everything in it; does nothing when it is up to date

# The stamp is newer than the requirements it was made from.
$(VENV)/.ready: requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("npt_viz needs Python 3.11 or newer and $(PYTHON) is " + sys.version.split()[0] + "; name another: make setup PYTHON=python3.12")'
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install -r requirements-dev.txt
	@touch $@

model: setup ## put the demo base model on this machine (90 MB, once)
	$(RUN) -m npt_viz model $(MODEL)

app: setup ## open the app; PORT=8502 for another port
	@$(RUN) -m npt_viz model $(MODEL) || echo "The app opens without the demo model; its Home page says how to get it."
	$(RUN) -m streamlit run app.py $(if $(PORT),--server.port $(PORT))

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
	HF_HUB_OFFLINE=1 $(RUN) -m pytest -q -rs $(ARGS)

check: setup ## formatting, lint and types; changes nothing
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m pyright

format: setup ## format the code and fix what the linter can
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

BENCHMARKS = $(patsubst %.py,%,$(notdir $(shell grep -l '^def main' benchmarks/*.py)))

bench: model ## print every benchmark's table
	@for name in $(BENCHMARKS); do echo "== $$name"; $(RUN) -m benchmarks.$$name || exit 1; echo; done
