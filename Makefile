# `make demo` and `make test` set up all they need in .venv, from nothing but Python and make.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python
PEERS ?= .venv-peers
RUN_PEERS = $(PEERS)/bin/python
FLOORS ?= .venv-floors
RUN_FLOORS = $(FLOORS)/bin/python
export SCIPY_ARRAY_API = 1

# What breaks first on other versions of the libraries: estimators, engine, training, files.
ESTIMATOR = estimators inputs regression parameters user_modules early_stopping going_on
CORE = $(ESTIMATOR:%=tests/estimator/test_%.py) tests/engine/test_engine.py \
	tests/training/test_training.py tests/test_pipeline.py tests/distributions/test_mixture.py \
	tests/posteriors/test_mc_dropout.py tests/persistence/test_round_trips.py \
	tests/metrics/test_scorers.py tests/calibration/test_temperature.py

.PHONY: demo test test-slow test-floors lint types security audit docs docs-serve other-sides bench \
	bench-peers bench-publish bench-quality clean

demo: $(VENV)/.installed
	MPLBACKEND=Agg $(RUN) examples/plot_digits.py examples/output/digits.png

# One process for each core, and in each of them one thread. `make test ORDER=17` runs the tests in
# the random order of that seed: the files, and those of a file among themselves.
ORDER ?=
test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --maxprocesses 8 --dist worksteal \
		$(if $(ORDER),--random-order --random-order-seed=$(ORDER))

test-slow: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(RUN) -m pytest -m slow -n auto --maxprocesses 8 --dist worksteal

# The core on the oldest versions that pyproject.toml admits, but for torch: see the requirements.
test-floors: $(FLOORS)/.installed
	OMP_NUM_THREADS=1 $(RUN_FLOORS) -m pytest -n auto --maxprocesses 8 --dist worksteal $(CORE)

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/.installed
	$(VENV)/bin/mypy

# What in skuq's own code could be turned against its users.
security: $(VENV)/.installed
	$(VENV)/bin/bandit --quiet --recursive --configfile pyproject.toml skuq

# Known vulnerabilities of what is installed; asks a service on the network, so no part of CI.
audit: $(VENV)/.installed
	$(VENV)/bin/pip-audit --skip-editable

# The site, in docs/_build/html. Warnings are errors. GALLERY=no does not run the examples.
docs: $(VENV)/.docs-installed
	MPLBACKEND=Agg OMP_NUM_THREADS=1 $(RUN) -m sphinx -b html -W --keep-going docs docs/_build/html
	$(RUN) docs/_ext/check_site.py docs/_build/html

docs-serve:
	$(PYTHON) -m http.server --bind 127.0.0.1 --directory docs/_build/html $(or $(PORT),8000)

# What other packages and skuq give, side by side, for docs/coming_from.md.
other-sides: $(PEERS)/.installed
	OMP_NUM_THREADS=1 $(RUN_PEERS) docs/_ext/run_other_sides.py

bench: $(VENV)/.installed
	$(RUN) -m benchmarks.run $(BENCH)

bench-peers: $(PEERS)/.installed
	$(RUN_PEERS) -m benchmarks.run $(BENCH)

bench-publish: $(PEERS)/.installed
	$(RUN_PEERS) -m benchmarks.run --publish docs/benchmarks $(BENCH)

# How good, not how fast: hours. QUALITY="--only tables" chooses tables, QUALITY=--list names them.
bench-quality: $(PEERS)/.installed
	$(RUN_PEERS) -m benchmarks.quality $(QUALITY)

$(VENV)/.installed: pyproject.toml requirements-cpu.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet -r requirements-cpu.txt
	$(RUN) -m pip install --quiet -e '.[dev]'
	touch $@

$(VENV)/.docs-installed: $(VENV)/.installed
	$(RUN) -m pip install --quiet -e '.[docs]'
	touch $@

$(FLOORS)/.installed: pyproject.toml requirements-cpu.txt requirements-floors.txt
	$(PYTHON) -m venv $(FLOORS)
	$(RUN_FLOORS) -m pip install --quiet -r requirements-cpu.txt
	$(RUN_FLOORS) -m pip install --quiet -r requirements-floors.txt
	$(RUN_FLOORS) -m pip install --quiet --no-deps -e .
	touch $@

# In three steps, since what the peers ask for excludes each other: see benchmarks/README.md.
$(PEERS)/.installed: requirements-cpu.txt benchmarks/requirements-peers.txt \
		benchmarks/requirements-peers-bare.txt
	$(PYTHON) -m venv $(PEERS)
	$(RUN_PEERS) -m pip install --quiet -r requirements-cpu.txt
	$(RUN_PEERS) -m pip install --quiet -c requirements-cpu.txt -r benchmarks/requirements-peers.txt
	$(RUN_PEERS) -m pip install --quiet --no-deps -r benchmarks/requirements-peers-bare.txt
	$(RUN_PEERS) -m pip install --quiet --no-deps -e .
	touch $@

clean:
	rm -rf $(VENV) $(PEERS) $(FLOORS) examples/output
	rm -rf docs/_build docs/_examples docs/api docs/gallery docs/sg_execution_times.rst
