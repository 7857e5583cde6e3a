# make demo     trains, evaluates and draws VM3-AC on predator-prey in runs/demo
# make check    lint, types, and the tests of what differs from main: for work in progress
# make test     lint, types, doctests, the whole suite: what .ci/run calls
# make test-wheel  the built wheel with each extra alone
# make notebooks  executes docs/notebooks, each in a kernel of its own, and checks what they claim
# make test-slow  the long learning runs
# make docs     the documentation site in docs/_build/html, offline; a warning is an error
# make test-benchmarl  BenchMARL, and the losses with the oldest torchrl, in .venv-benchmarl
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

BENCHMARL_VENV ?= .venv-benchmarl
BENCHMARL := $(BENCHMARL_VENV)/bin/python
BENCHMARL_STAMP := $(BENCHMARL_VENV)/.installed
BENCHMARL_PIP := $(BENCHMARL) -m pip install --quiet --disable-pip-version-check -c constraints-benchmarl.txt
OLD_END := functional nn priors modules objectives baselines learning integrations

DOCS_STAMP := $(VENV)/.installed-docs

.PHONY: install demo check docs notebooks test test-slow test-wheel test-benchmarl lint types clean

install: $(STAMP)

# Two steps: with torch in place pip does not look for another one among the rest's needs.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

# PettingZoo 1.25 asks for a Box2D that has to be compiled; a built one goes by another name.
$(BENCHMARL_STAMP): pyproject.toml constraints-benchmarl.txt
	$(PYTHON) -m venv $(BENCHMARL_VENV)
	$(BENCHMARL_PIP) torch
	$(BENCHMARL_PIP) -e '.[benchmarl,vmas,testing]' pytest pytest-xdist mpmath
	$(BENCHMARL_PIP) --no-deps pettingzoo
	$(BENCHMARL_PIP) Box2D gymnasium pymunk pygame-ce scipy
	touch $@

# DEMO adds knobs: `make demo DEMO="frames=2000 eval_episodes=4"` tries all of it in seconds.
demo: install
	$(BIN)/python recipes/train_continuous.py loop=demo algorithm=vm3ac task=predator_prey_2 run_dir=runs/demo overwrite=true $(DEMO)
	$(BIN)/python recipes/evaluate.py run_dir=runs/demo episodes=20 latent=all

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $(DOCS_STAMP)

docs: $(DOCS_STAMP)
	$(BIN)/python -m sphinx -b html -n -W --keep-going docs docs/_build/html

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

# CHECK adds options: `make check CHECK="--against HEAD --list"`.
check: lint types
	OMP_NUM_THREADS=1 $(BIN)/python tests/check.py $(CHECK)

# Each worker begins with half of the files and takes over tests of the other when it is done, so
# that what a file's tests share is made once.
test: lint types
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not slow" --doctest-modules vm3ac_modules tests

# The built wheel, outside the checkout: alone, with each extra alone, and as a user would.
test-wheel: install
	$(BIN)/python tests/wheel/check.py

# Gaps are skipped with a reason; what needs extras that BenchMARL's set has not is skipped too.
test-benchmarl: $(BENCHMARL_STAMP)
	OMP_NUM_THREADS=1 $(BENCHMARL) -m pytest -q -n 2 -m "not slow" --doctest-modules vm3ac_modules/integrations $(OLD_END:%=tests/%)

# Nothing is written: `.venv/bin/python docs/make_notebooks.py` writes their outputs anew.
notebooks: install
	OMP_NUM_THREADS=1 $(BIN)/python docs/make_notebooks.py --check

test-slow: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m slow tests

clean:
	rm -rf $(VENV) $(BENCHMARL_VENV) build dist docs/_build docs/api .mypy_cache .ruff_cache .pytest_cache .hypothesis
