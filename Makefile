# `make demo` and `make test` do all the set-up on a fresh machine; each makes the virtual environment once.
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
DEMO ?= demo
CDS ?= ../shared/data/cds
BENCH ?= bench

.PHONY: install demo test check format bench bench-score clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[train,cpu,dev]"
	touch $@

demo: install
	$(BIN)/python benchmarks/demo.py --folder $(DEMO)

test: install check
	$(BIN)/python -m pytest

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install
	$(BIN)/python benchmarks/cds.py --split $(CDS) --folder $(BENCH)

# Needs what `make bench` leaves behind, and two cores that do nothing else.
bench-score: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[ann]"
	$(BIN)/python benchmarks/score.py --bundle $(BENCH)/bundle --run $(BENCH)/aligned-0 --histories $(CDS)/test.csv

clean:
	rm -rf $(VENV) $(DEMO) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
