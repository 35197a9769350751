# Needs Python 3.11 or newer and make; everything else goes into .venv and .tox.
PYTHON ?= python3
TOX := .venv/bin/tox

.DEFAULT_GOAL := help
.PHONY: help test conformance docs clean

help:
	@echo 'make conformance   hold the installed NumPy, PyTorch and JAX against each other'
	@echo 'make test          lint, workflows, types on the wheel, documentation, and the tests with both frameworks, either and none'
	@echo 'make docs          the documentation as pages in build/docs'
	@echo 'make clean         remove .venv, .tox and everything that is generated'

# Installing uses one core an environment, so two at a time; the tests use all cores, so one after the other.
test: .venv/installed
	$(TOX) run-parallel --parallel 2 --parallel-no-spinner --notest -m test
	$(TOX) run --skip-pkg-install -m test

conformance: .venv/installed
	$(TOX) run -e conformance

docs: .venv/installed
	$(TOX) run -e docs

# The file is touched last: an interrupted installation starts again.
.venv/installed: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo 'gradconform needs Python 3.11 or newer as $(PYTHON); another one: make PYTHON=python3.12 ...' >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt tox
	@touch $@

clean:
	rm -rf .venv .tox docs/generated .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
