# Balmer from a fresh clone: every target makes the environment it needs.
#
#   make demo    every stage on the shipped model and text, ending with where the report is
#   make test    the tests
#   make check   the tests, lint, formatting and types: what CI runs
#   make clean   remove the environment (runs/ is kept)

PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= cpu,cluster,dev
BIN := $(VENV)/bin
TEST_WORKERS ?= 2
FOLDERS := balmer scale aux cluster eval tests benchmarks

.PHONY: demo test check lint clean

demo: $(VENV)/installed
	$(BIN)/balmer demo

test: $(VENV)/installed
	$(BIN)/python -m pytest --numprocesses $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder --durations 20

check: lint test

lint: $(VENV)/installed
	$(BIN)/ruff check $(FOLDERS)
	$(BIN)/ruff format --check $(FOLDERS)
	$(BIN)/mypy

# The versions in constraints.txt; a file of our own marks that the installation went through to its end.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Balmer needs Python 3.11 or newer; make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@

clean:
	rm -rf $(VENV) *.egg-info
