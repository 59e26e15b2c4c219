# `make demo` and `make test` start from nothing but Python 3.11 or newer; what is already there is not installed again.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
BROWSERS := chromium chromium-browser google-chrome google-chrome-stable
DEMO := checkpoints/demo
REFERENCE := checkpoints/reference
FRESH := build/reference

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint format typing chromium benchmark faults reference clean

help:
	@echo "make demo        train a network, analyze it and write its report (about 2 minutes)"
	@echo "make test        style, types and all tests"
	@echo "make lint        style and types alone; make format mends the style"
	@echo "make benchmark   speed beside what people use today; writes the table in README.md"
	@echo "make faults      kills, damages, several writers, hostile files by the thousand (about an hour; docs/reliability.md)"
	@echo "make reference   train the run in $(REFERENCE) anew"
	@echo "make clean       remove what these made, except runs of your own and $(VENV)"
	@echo "Another Python: make test PYTHON=python3.12"

demo: $(VENV)/installed
	$(BIN)/interp train --preset quick --out $(DEMO) --overwrite
	$(BIN)/interp report $(DEMO)
	@echo
	@echo "The report, to open in a browser: $(CURDIR)/$(DEMO)/report.html"

# Reordered, the files of fewest tests come last, and they are the longest: one process would end long after the others.
test: lint chromium
	$(BIN)/pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/installed-dev typing
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# pyright does not know that the folder analyses/ is imported as interp.analyses: it is shown a tree of links where it is.
typing:
	@rm -rf .typing && mkdir -p .typing/interp
	@cd .typing/interp && ln -s ../../interp/* ../../analyses . && ln -s ../../$(REFERENCE) reference

benchmark: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks --write README.md

# What the suite does some dozen times; each ends with 1 where anything was lost, or wrong without a word.
faults: $(VENV)/installed-dev
	$(BIN)/python -m tests.flip_bits --flips 10000
	$(BIN)/python -m tests.kill_and_resume --kills 300
	$(BIN)/python -m tests.kill_commands --kills 1000
	$(BIN)/python -m tests.kill_sweeps --kills 200
	$(BIN)/python -m tests.ray_nodes --kills 8
	$(BIN)/python -m tests.two_writers --rounds 200
	$(BIN)/python -m tests.mutate_checkpoints --files 10000
	$(BIN)/python -m tests.hostile_imports

# Trained elsewhere and then moved in, because the folder is also a package, and an interrupted training must not cost the old run.
reference: $(VENV)/installed
	@mkdir -p $(dir $(FRESH))
	$(BIN)/interp train --preset reference --out $(FRESH) --overwrite
	rm -rf $(REFERENCE)/steps $(REFERENCE)/results
	cp -R $(FRESH)/run.json $(FRESH)/split.safetensors $(FRESH)/metrics.jsonl $(FRESH)/steps $(REFERENCE)/
	$(BIN)/interp verify $(REFERENCE)
	rm -rf $(FRESH)

clean:
	rm -rf build dist .typing .pytest_cache .ruff_cache .hypothesis .benchmarks .coverage $(DEMO) $(REFERENCE)/results
	find interp analyses checkpoints tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

# ---- what the targets above need --------------------------------------------------------------------------------------

$(VENV)/usable:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" \
	  || { echo "interp needs Python 3.11 or newer, and $(PYTHON) is not: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@echo "Installing into $(VENV): a few minutes, once."
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@touch $@

# The build backend comes from constraints.txt too, hence --no-build-isolation.
$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/usable
	$(INSTALL) pip setuptools
	$(INSTALL) --no-build-isolation -e .
	@touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(VENV)/usable
	$(INSTALL) pip setuptools
	$(INSTALL) --no-build-isolation -e ".[dev]"
	@touch $(VENV)/installed $@

# The tests open reports and draw static images in the browser of the system.
chromium:
	@for name in $(BROWSERS); do command -v $$name >/dev/null && exit 0; done; \
	if [ "$$(id -u)" = 0 ]; then as_root=""; elif sudo -n true 2>/dev/null; then as_root="sudo"; else as_root="no"; fi; \
	if [ "$$as_root" = no ] || ! command -v apt-get >/dev/null; then \
	  echo "The tests need Chromium, and it cannot be installed from here. On Debian: sudo apt-get install chromium" >&2; exit 1; \
	fi; \
	echo "Installing Chromium with apt-get."; \
	$$as_root apt-get update -qq && $$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium fonts-liberation
