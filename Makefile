# `make demo` and `make test` are the two commands; everything else serves them.
# Both install what is missing and nothing twice. They work as root, or with sudo.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test lint train clean system

PYTHON ?= python3
VENV := .venv
# The tests wait a lot, for real programs: one more than the two cores of the smallest machine.
TEST_PROCESSES ?= 3
# File by file, for the fixtures of a file; in their order, since a file of few tests may be a long one.
TEST_DISTRIBUTION := --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder
# Debian's packages: what the archive needs, and what the tests need on top.
DEMO_PACKAGES := orthanc orthanc-python orthanc-dicomweb dcmtk python3-venv
TEST_PACKAGES := $(DEMO_PACKAGES) docker-compose postgresql dicom3tools chromium curl jq dcm2niix

help:
	@echo "make demo   the whole stack on loopback, with a simulated exam (Ctrl-C ends it)"
	@echo "make test   all tests, those against a real Orthanc included"
	@echo "make lint   ruff, ruff format and mypy --strict"
	@echo "make train  install the training extra into .venv-train and train (about an hour)"
	@echo "make clean  remove the virtual environments and the OHIF viewer of the tests"

demo: $(VENV)/.runtime
	@bin/install-packages $(DEMO_PACKAGES)
	@$(VENV)/bin/halfscan demo

test: $(VENV)/.test
	@bin/install-packages $(TEST_PACKAGES)
	@bin/get-ohif .ohif
	@$(VENV)/bin/python -m pytest $(TEST_DISTRIBUTION) $(PYTEST_OPTIONS)

lint: $(VENV)/.test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# PyTorch and what it brings are in no lock file: its builds differ from index to index.
train: | system
	@bin/make-venv "$(PYTHON)" .venv-train requirements/worker.txt
	.venv-train/bin/pip install --no-build-isolation -e '.[train]'
	.venv-train/bin/python -m halfscan_models.training models/halfscan_models/training/run.toml

# The stamps say which lock file an environment was made from.
$(VENV)/.runtime: requirements/runtime.txt pyproject.toml | system
	@bin/make-venv "$(PYTHON)" $(VENV) requirements/runtime.txt
	@touch $@

$(VENV)/.test: requirements/test.txt pyproject.toml | system
	@bin/make-venv "$(PYTHON)" $(VENV) requirements/test.txt
	@touch $@ $(VENV)/.runtime

# Before the environment: a bare Debian has no venv module.
system:
	@bin/install-packages python3-venv

clean:
	rm -rf $(VENV) .venv-train .ohif
