# Everything runs in one virtual environment, made on first use and renewed when its inputs change.
VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NOTEBOOKS = $(wildcard tutorials/*.ipynb notebooks/*.ipynb notebooks/*/*.ipynb)

# Executes copies, whose outputs `make docs` then shows; what stands in the repository has none.
EXECUTED := executed
define execute
	rm -rf $(EXECUTED)/$(1) && mkdir -p $(EXECUTED)/$(1) && ln -sfn ../data $(EXECUTED)/data
	cp $(1)/*.ipynb $(EXECUTED)/$(1)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -o addopts= -n 2 --nbmake --overwrite --nbmake-timeout=600 --durations=5 $(EXECUTED)/$(1)
endef

.DEFAULT_GOAL := help
.PHONY: help install demo test check tutorials notebooks docs drawings bench bench-7b safety compare parity clean

help: ## this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(STAMP) ## make the virtual environment ($(VENV)) and install everything, pinned

$(STAMP): constraints.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "No python3.11 found; install Python 3.11 or pass PYTHON=/path/to/python." >&2; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e ".[dev,docs,notebooks,eval,finetune,ray]"
	@touch $@

demo: $(STAMP) ## CMRM on the shipped model organism: table, report, figures
	OMP_NUM_THREADS=1 $(BIN)/cmrm demo

test: $(STAMP) ## the whole test suite, with line and branch coverage
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup --cov --cov-report=term --cov-report=json $(ARGS)

check: $(STAMP) ## lint, format, types, layers, notebooks stripped
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-cache
	$(if $(NOTEBOOKS),$(BIN)/nbstripout --verify $(NOTEBOOKS))

tutorials: $(STAMP) ## execute every lesson
	$(call execute,tutorials)

notebooks: $(STAMP) ## execute every notebook
	$(call execute,notebooks)

# With --quiet, --strict would count no warnings and let every broken link pass.
docs: $(STAMP) ## build the pages into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

drawings: $(STAMP) ## the drawings of the concept pages, from their code
	OMP_NUM_THREADS=1 $(BIN)/python -m docs.drawings

bench: $(STAMP) ## speed beside hooks, nnsight, TransformerLens and pyvene, as ratios (ten minutes on a quiet machine)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.bench $(ARGS)

bench-7b: $(STAMP) ## times and peak memory at the size of LLaVA-1.5-7B, random weights, as many layers as fit
	$(BIN)/python -m benchmarks.rehearsal --shape llava-1.5-7b

safety: $(STAMP) ## the safety table of three training seeds (trains two organisms on the first run: 40 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.safety --page docs/safety.md $(ARGS)

compare: $(STAMP) ## every defence on three training seeds (trains two organisms and nine checkpoints on the first run: hours)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.defences --page docs/defences.md $(ARGS)

parity: $(STAMP) ## every hook point beside TransformerLens's, on the same weights, in an environment of its own
	OMP_NUM_THREADS=1 $(BIN)/python -m parity.run

clean: ## remove what was built, not the virtual environment
	rm -rf site build dist $(EXECUTED) htmlcov .coverage coverage.json .pytest_cache .ruff_cache .import_linter_cache
