# Two commands on a bare machine with Python 3.11+, git and make: `make weekly` and `make test`.
PYTHON ?= python3 python3.11 python3.12 python3.13
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/python requirements/run_uv.py
PYTEST_ARGS ?=
REPORTS := weekly_trends suggestions signal_report slo_report# tests/test_notebooks.py runs these and looks at their pages
LAB_ARGS ?=  # such as --no-browser, or --allow-root in a container
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help weekly test lab dashboards docs lint bench peer lock clean environment environment-dev

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' Makefile | awk -F'|' '{ printf "  make %-12s %s\n", $$1, $$2 }'

weekly: $(VENV)/.runtime data/sample  ## build .venv, make the sample, run the weekly report and say where it is
	$(BIN)/feedback report weekly --params params/weekly.yaml

test: $(VENV)/.dev  ## build what the tests need and run them
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --nbmake --nbmake-timeout=300 \
	  --ignore-glob='notebooks/*.py' $(REPORTS:%=--ignore=notebooks/%.ipynb) tests feedback_lib notebooks $(PYTEST_ARGS)

lab: $(VENV)/.runtime data/sample  ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab --ServerApp.root_dir=. notebooks/explore.ipynb $(LAB_ARGS)

dashboards: $(VENV)/.runtime data/store  ## show the dashboard in the browser, on this machine only
	$(BIN)/feedback dashboards

docs: $(VENV)/.runtime  ## write the generated pages under docs/
	$(BIN)/python docs/make_cli.py

lint: $(VENV)/.dev  ## style, types, layers, stale pages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/make_cli.py --check

bench: $(VENV)/.runtime  ## topics beside BERTopic as a table (first: make peer), then the rest as JSON
	$(BIN)/python -m benchmarks.topics
	@for file in benchmarks/[a-z]*.py; do name=$$(basename $$file .py); \
	  [ $$name = topics ] || $(BIN)/python -m benchmarks.$$name --json || exit 1; \
	done

peer: .venv-peer/.made  ## build .venv-peer, in which make bench runs BERTopic (needs the network)

.venv-peer/.made: benchmarks/peer-requirements.txt | $(VENV)/.uv
	$(UV) venv --quiet --clear .venv-peer
	$(UV) pip install --quiet --python .venv-peer/bin/python -r benchmarks/peer-requirements.txt
	@touch $@

lock: $(VENV)/.uv  ## write the lock files again (newer versions: make lock UPGRADE=--upgrade)
	$(BIN)/python requirements/lock.py $(UPGRADE)

clean:  ## remove .venv and caches; data and reports stay
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

environment: $(VENV)/.runtime
environment-dev: $(VENV)/.dev

data/sample: | $(VENV)/.runtime
	$(BIN)/feedback sample --out data/sample

data/store: | data/sample
	$(BIN)/feedback report weekly --params params/weekly.yaml

# A stamp is written when its step is done, so the second run installs nothing.
$(VENV)/.uv: requirements/uv.txt
	@for python in $(PYTHON); do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    "$$python" -m venv $(VENV) && exec $(BIN)/python -m pip install --quiet --require-hashes -r requirements/uv.txt; \
	    echo "$$python could not make $(VENV); on Debian install python3-venv" >&2; exit 1; \
	  fi; \
	done; \
	echo "Python 3.11 or newer is needed; name one: make PYTHON=/path/to/python" >&2; exit 1
	@touch $@

$(VENV)/.runtime: $(VENV)/.uv requirements/runtime.txt pyproject.toml
	$(UV) pip sync --quiet --require-hashes requirements/runtime.txt
	$(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.txt
	$(UV) pip sync --quiet --require-hashes requirements/dev.txt
	$(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
