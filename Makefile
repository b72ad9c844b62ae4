# `make demo` and `make test` need Python 3.10 to 3.13 with venv, and a C++ compiler; everything else they install.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# sam2 is built from source; its CUDA extension serves video tracking only.
export SAM2_BUILD_CUDA = 0

.PHONY: bundles demo test test-slow style docs install clean

demo: $(INSTALLED)
	$(BIN)/python -m monai_sam2adapter demo

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" --numprocesses 2 --dist loadfile

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

style: $(INSTALLED)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

bundles:
	$(PYTHON) bundles/_templates/generate.py

docs: $(INSTALLED)
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo docs/_build/html/index.html

install: $(INSTALLED)

# sam2's build imports torch. Building it in a fresh environment would fetch torch once more, so torch comes first.
$(INSTALLED): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip "setuptools>=77" wheel
	$(BIN)/python -m pip install --quiet torch torchvision
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable ".[dev]"
	touch $(INSTALLED)

clean:
	rm -rf $(VENV) demo_output build docs/_build *.egg-info .pytest_cache .mypy_cache .ruff_cache
