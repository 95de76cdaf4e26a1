# Two commands: `make app` and `make test`. Each makes .venv with the tested versions if it is not there.

# The first Python >= 3.11 that there is; `make PYTHON=...` chooses another one.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	$$p -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --constraint constraints.txt
PORT ?= 8501
PYTEST := $(BIN)/python -m pytest
# `make test JOBS=2`: that many processes, each with the tests of whole files.
BESIDE := $(if $(JOBS),--numprocesses $(JOBS) --dist loadfile)

export PYTHONUNBUFFERED := 1
# Threads that wait sleep, from the first import on: pytest and Jupyter load NumPy before cillab can say so (cillab/core/threads.py).
export OMP_WAIT_POLICY ?= passive
export OPENBLAS_THREAD_TIMEOUT ?= 4

.PHONY: help app test test-all test-browser notebooks gallery fuzz torture student write bench lint format lock clean

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

app: $(VENV)/.app  ## open the app on http://localhost:8501 (PORT=... for another port)
	$(BIN)/python -m streamlit run app/main.py --server.address=localhost --server.port=$(PORT)

test: $(VENV)/.test  ## the test suite (JOBS=2: in two processes)
	$(PYTEST) $(BESIDE)

test-all: $(VENV)/.test $(VENV)/.browser  ## also the slow tests, and those that need real data, a GPU or a browser
	$(PYTEST) -m ""

test-browser: $(VENV)/.browser  ## the app in Chromium (found on this machine, or: .venv/bin/playwright install chromium)
	@$(BIN)/python -m tests.app.serving  # says what is missing, and ends
	$(PYTEST) -m browser

notebooks: $(VENV)/.notebooks  ## run every notebook (CILLAB_FAST=1: the short version)
	$(PYTEST) $(BESIDE) --nbmake --nbmake-timeout=600 notebooks

gallery: $(VENV)/.notebooks  ## run every notebook and write build/gallery/index.html, with figures
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/notebooks.py gallery build/gallery

student: $(BIN)/python  ## notebooks without solutions in build/student
	$(BIN)/python scripts/notebooks.py student build/student

write: $(BIN)/python  ## notebooks/*.ipynb from notebooks/sources/*.py
	$(BIN)/python scripts/notebooks.py write

fuzz: $(VENV)/.test  ## 10,000 mutated files and requests per test (CILLAB_FUZZ=...)
	CILLAB_FUZZ=$${CILLAB_FUZZ:-10000} $(PYTEST) --hypothesis-show-statistics tests/fuzz

torture: $(VENV)/.test  ## kill runs at random moments, many times (CILLAB_KILLS=...)
	CILLAB_KILLS=$${CILLAB_KILLS:-50} $(PYTEST) -m slow tests/torture

bench: $(VENV)/.test  ## every benchmark, one JSON line or table each
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

lint: $(VENV)/.lint  ## ruff, pyright, the floors of the house, notebooks without outputs, prose, numbers of the course
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/nbstripout --verify notebooks/*.ipynb
	$(BIN)/python scripts/prose.py
	$(BIN)/python scripts/numbering.py

format: $(VENV)/.lint  ## let ruff put things in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(VENV)/.app $(VENV)/.test $(VENV)/.notebooks $(VENV)/.browser $(VENV)/.lint  ## write constraints.txt from what .venv holds
	{ sed '/^[^#]/,$$d' constraints.txt; $(BIN)/python -m pip list --format=freeze --exclude-editable --exclude pip; } > constraints.new
	mv constraints.new constraints.txt

clean:  ## remove .venv
	rm -rf $(VENV)

# One stamp per group of extras: a second `make` installs nothing. Pages and notebooks are tested, hence the app there;
# types are checked everywhere, hence all of it for lint.
$(VENV)/.app: EXTRAS := app,umap
$(VENV)/.test: EXTRAS := app,test,oracle,tensorboard
$(VENV)/.notebooks: EXTRAS := app,test,notebooks
$(VENV)/.browser: EXTRAS := app,test,browser
$(VENV)/.lint: EXTRAS := app,test,notebooks,browser,lint

$(VENV)/.app $(VENV)/.test $(VENV)/.notebooks $(VENV)/.browser $(VENV)/.lint: constraints.txt pyproject.toml $(BIN)/python
	@echo "installing cillab[$(EXTRAS)] into $(VENV); the first time this brings PyTorch, about 7 GB on disk"
	$(INSTALL) --editable ".[$(EXTRAS)]"
	@touch $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "cillab needs Python >= 3.11 and found none. Install it, or: make PYTHON=/path/to/python3 ..."; exit 1; }
	$(PYTHON) scripts/make_venv.py $(VENV)
	@touch $@
