# `make demo` and `make test` do all the set-up on a fresh machine; each makes the virtual environment once.
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
DEMO ?= demo
CDS ?= ../shared/data/cds
BENCH ?= bench
RELIABILITY = tests/test_offline.py tests/test_dependencies.py tests/flr_model/test_artifacts.py tests/flr_model/test_writing.py \
	tests/flr_model/data/test_dataset_of.py tests/flr_model/nn/test_run.py tests/flr_model/assets \
	tests/flr_model/training/test_checkpoints.py tests/flr_model/training/test_resume.py tests/flr_model/training/test_setup.py \
	tests/export/test_runtime.py tests/export/scoring/test_outputs.py tests/export/scoring/test_resume.py tests/flr_cli/test_eval.py

.PHONY: install demo test check reliability format bench bench-score clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[train,cpu,dev]"
	touch $@

demo: install
	$(BIN)/python benchmarks/demo.py --folder $(DEMO)

test: install check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --dist loadfile

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Kills, damage, full disks, two processes, links, no network: docs/reliability.md.
reliability: install
	$(BIN)/python -m pytest $(RELIABILITY)

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
