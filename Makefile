PYTHON ?= .venv/bin/python
DATA ?= data

.PHONY: help setup test fast avx2 lint format bench travel notebooks fuzz docs constraints

help:  ## list the habits
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup:  ## make .venv with everything a developer needs, at the versions CI uses
	python3 -m venv .venv
	$(PYTHON) -m pip install -q -c constraints.txt -e ".[dev]"
	$(PYTHON) -m pre_commit install

test:  ## every test, as CI runs them
	$(PYTHON) -m pytest

fast:  ## the tests to run before each commit (under five minutes)
	$(PYTHON) -m pytest -m "not slow"

avx2:  ## what depends on the processor, held to AVX2
	ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 $(PYTHON) -m pytest -m processor

lint:  ## style, spelling and types
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m codespell_lib src tests benchmarks docs README.md CONTRIBUTING.md CHANGELOG.md model_cards
	$(PYTHON) -m mypy

format:  ## let ruff put the style right
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

bench:  ## speed against transformers on the same weights and inputs, as ratios
	$(PYTHON) -m benchmarks encoder
	$(PYTHON) -m benchmarks masked-lm
	$(PYTHON) -m benchmarks generation

travel:  ## saved folders of every version × releases of transformers × with and without bertlite
	$(PYTHON) tests/scripts/travel_matrix.py

notebooks:  ## run every notebook from a clean kernel
	$(PYTHON) -m pytest -m slow tests/test_notebooks.py

fuzz:  ## thousands of damaged and hostile files into every reader
	BERTLITE_FUZZ=2000 $(PYTHON) -m pytest tests/test_hostile_files.py

docs:  ## build the site of the documentation into out/site, without a network
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict

constraints:  ## write constraints.txt from the present environment
	{ echo "# Exact versions that CI and the README's commands use. Regenerate: make constraints"; \
	  $(PYTHON) -m pip list --format=freeze --exclude pip --exclude setuptools --exclude bertlite | sed 's/+cpu//'; } > constraints.txt
