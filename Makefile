# `make demo`: discover landmarks on the embedded data set, end to end. `make test`: linter, types and tests.
# Both set up .venv first: the demo with what a user needs, the tests with more. `make clean` removes what they made.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
# Threads that wait spin only briefly: without end they would starve whatever else runs on the cores.
export GOMP_SPINCOUNT ?= 20000
DEMO := --dataset_name Demo --experiment_name demo --paths paths/demo.yaml

# As many tests at a time as there are cores, each in one thread; the last ones go to whoever is free.
PYTEST := $(RUN) -m pytest --numprocesses=logical --maxprocesses=4 --dist=worksteal

.PHONY: demo test test-types test-behaviour setup setup-dev clean

setup: $(VENV)/.complete

setup-dev: $(VENV)/.complete-dev

$(VENV)/.complete: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/.complete-dev: requirements-dev.txt $(VENV)/.complete
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

demo: setup
	$(RUN) tools/demo.py $(DEMO)

test: setup-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(MAKE) --no-print-directory --jobs=2 test-types test-behaviour

test-types:
	$(VENV)/bin/mypy

test-behaviour:
	$(PYTEST)

clean:
	rm -rf Logs/demo Logs/DemoData Logs/Keypoints .pytest_cache .mypy_cache .ruff_cache
