# `make demo` and `make test` set up all they need in .venv, from nothing but Python and make.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python
export SCIPY_ARRAY_API = 1

.PHONY: demo test test-slow lint types bench clean

demo: $(VENV)/.installed
	$(RUN) examples/plot_digits.py

test: $(VENV)/.installed
	$(RUN) -m pytest

test-slow: $(VENV)/.installed
	$(RUN) -m pytest -m slow

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/.installed
	$(VENV)/bin/mypy

bench: $(VENV)/.installed
	$(RUN) benchmarks/foundation.py
	$(RUN) benchmarks/calibration_speed.py

$(VENV)/.installed: pyproject.toml requirements-cpu.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet -r requirements-cpu.txt
	$(RUN) -m pip install --quiet -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) examples/output
