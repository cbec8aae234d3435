# make demo   set up .venv, train CARN on the synthetic world, print the table (about two minutes of training)
# make test   set up .venv, run the tests and doctests (JOBS=2 processes)
# make docs   build the documentation
# make check  what CI runs besides: ruff, mypy, import contracts
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
DEMO := runs/demo
JOBS ?= 2

.PHONY: demo test check docs clean

$(VENV)/.ready: setup.cfg pyproject.toml .ci/constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --constraint .ci/constraints.txt --editable '.[train,plots,dev]'
	touch $@

demo: $(VENV)/.ready
	rm -rf $(DEMO)
	$(PY) examples/train.py carn --recipe examples/recipes/synthetic.toml --missing fixed --seeds 3 \
		--beside none --config.epochs-complete 2 --config.epochs-missing 6 --out $(DEMO)
	@echo "Figures, table and result.json are in $(DEMO)."

test: $(VENV)/.ready
	OMP_NUM_THREADS=1 $(PY) -m pytest --numprocesses $(JOBS) --dist worksteal

check: $(VENV)/.ready
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --config setup.cfg

docs: $(VENV)/.ready
	$(PY) -m pip install --quiet --constraint .ci/constraints.txt --editable '.[docs]'
	$(VENV)/bin/sphinx-build -W -b html docs docs/_build/html

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
