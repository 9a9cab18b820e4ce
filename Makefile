# Everything a newcomer needs: `make run` shows what your agents cost, `make test` proves it.
PYTHON ?= python3
MINUTES ?= 15
BIN := .venv/bin
RUNTIME := .venv/.installed
DEVELOPMENT := .venv/.installed-dev

.PHONY: run install test test-browser torture lint format dev bench catalogue screenshots clean help

run: $(RUNTIME) ## Sync this machine's agent logs (or the bundled samples) and show the days.
	@$(BIN)/kharcha run

install: $(DEVELOPMENT) ## Set up .venv with everything for development.

test: $(DEVELOPMENT) ## Run all tests but those that need a browser.
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not browser"

test-browser: $(DEVELOPMENT) ## Run the tests that need a browser (Debian: apt-get install chromium).
	$(BIN)/pytest -m browser

torture: $(DEVELOPMENT) ## Kill, fill disks, race, fuzz and try other versions for MINUTES (15).
	$(BIN)/python -m kharcha_pipeline_tests.torture --minutes $(MINUTES)

lint: $(DEVELOPMENT) ## Check format, style, types and the direction of imports.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEVELOPMENT) ## Format the code.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

dev: $(RUNTIME) ## Open the same pipeline in Dagster's UI.
	$(BIN)/kharcha dev

bench: $(DEVELOPMENT) ## Measure against limits, and against ccusage where it is installed.
	$(BIN)/python -m benchmarks

catalogue: $(DEVELOPMENT) ## Extract the price catalogue anew, after pinning another genai-prices.
	$(BIN)/python -m kharcha_pipeline_tests.write_catalogue

screenshots: $(DEVELOPMENT) ## Make the README's pictures anew (needs chromium).
	$(BIN)/python docs/make_pictures.py

clean: ## Remove the environment and caches; data/ stays.
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist

help: ## List the targets.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Kharcha Pipeline needs Python 3.11 or newer, and this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12 run") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv

$(RUNTIME): pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt hatchling editables
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e .
	@touch $@

$(DEVELOPMENT): pyproject.toml constraints.txt | $(RUNTIME)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@
