# `make demo` and `make test` do all the set-up on a fresh machine; each makes the virtual environment once.
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
DEMO ?= demo
SHARED ?= ../shared/data
BENCH ?= bench
COUNT ?= 10000

.PHONY: install demo test check fuzz reliability oldest format bench bench-score audit site clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[train,cpu,dev]"
	touch $@

demo: install
	$(BIN)/python benchmarks/demo.py --folder $(DEMO)

test: install check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --dist loadfile --no-loadscope-reorder

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Whatever a file or a folder holds: `make fuzz COUNT=100000`.
fuzz: install
	OMP_NUM_THREADS=1 FLR_FUZZ=$(COUNT) $(BIN)/python -m pytest -n logical -m fault tests/fuzz

# Kills, damage, full disks, two processes, no network, and the fuzzer, with a count of each: docs/reliability.md.
reliability: install
	OMP_NUM_THREADS=1 FLR_FUZZ=$(COUNT) $(BIN)/python -m pytest -n logical -m fault

# The tests with the oldest versions that pyproject.toml allows together; with the torch of that time come some 3 GB.
# Not part of the gate: it takes several minutes.
OLDEST = $(VENV)-oldest
oldest:
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet uv
	$(OLDEST)/bin/uv pip install --quiet --python $(OLDEST)/bin/python --resolution lowest-direct ".[train,cpu,dev]"
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The tables of docs/results.md: CDs; bench-beauty and bench-retail likewise.
bench: install
	$(BIN)/python benchmarks/accuracy.py cds $(SHARED)/cds --folder $(BENCH)

bench-%: install
	$(BIN)/python benchmarks/accuracy.py $* $(SHARED)/$* --folder $(BENCH)-$*

# Recomputes the Beauty figures from the raw CSV by another library; needs what `make bench-beauty` leaves behind.
audit: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[bench]"
	$(BIN)/python benchmarks/audit.py $(SHARED)/beauty $(BENCH)-beauty/data $(BENCH)-beauty/bundle --permuted --folder $(BENCH)-audit

# Needs what `make bench` leaves behind, and two cores that do nothing else.
bench-score: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[ann]"
	$(BIN)/python benchmarks/score.py --bundle $(BENCH)/bundle --run $(BENCH)/run-0 --histories $(SHARED)/cds/test.csv

# The documents as a site, in build/site; it opens from disk.
site: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[docs]"
	$(BIN)/mkdocs build --quiet

clean:
	rm -rf $(VENV) $(DEMO) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
