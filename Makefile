# make demo     trains, evaluates and draws VM3-AC on predator-prey in runs/demo
# make test     lint, types, doctests, the whole suite: what .ci/run calls
# make test-wheel  the built wheel with each extra alone
# make test-slow  the long learning runs
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test test-slow test-wheel lint types clean

install: $(STAMP)

# Two steps: with torch in place pip does not look for another one among the rest's needs.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

# DEMO adds knobs: `make demo DEMO="frames=2000 eval_episodes=4"` tries all of it in seconds.
demo: install
	$(BIN)/python recipes/train_continuous.py loop=demo algorithm=vm3ac task=predator_prey_2 run_dir=runs/demo overwrite=true $(DEMO)
	$(BIN)/python recipes/evaluate.py run_dir=runs/demo episodes=20 latent=all

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

test: lint types
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 -m "not slow" --doctest-modules vm3ac_modules tests

# The built wheel, outside the checkout: alone, with each extra alone, and as a user would.
test-wheel: install
	$(BIN)/python tests/wheel/check.py

test-slow: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m slow tests

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
