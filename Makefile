# Everything a newcomer needs: `make demo`, then `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help demo test test-slow quality format wheel-test clean

help:  ## show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade -c constraints.txt pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

demo: $(INSTALLED)  ## the whole flow on the built-in world: environment, data, training, explanations, report
	rm -rf demo
	$(BIN)/xrec demo --out demo

test: $(INSTALLED)  ## environment, the main job, and all tests
	$(BIN)/pytest

test-slow: $(INSTALLED)  ## the tests that take minutes
	$(BIN)/pytest -m slow

quality: $(INSTALLED)  ## lint, format check, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy modeling_xrec dataset_builder training evaluation

format: $(INSTALLED)  ## format and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel-test: $(INSTALLED)  ## build the wheel and use it in a clean environment
	$(BIN)/pytest -m wheel

clean:  ## remove what the targets made
	rm -rf $(VENV) demo build dist *.egg-info
