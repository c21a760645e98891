# Every command below sets up .venv first, and does not reinstall when that is already done.
python := .venv/bin/python
pytest := $(python) -m pytest -n auto --dist loadfile
export MPLBACKEND := Agg

.PHONY: help set-up demo test slow lint bench notebooks studies docs

help:
	@echo "make demo   set up .venv and run the demonstration: a fit, its tables, report.html"
	@echo "make test   set up .venv and run the tests"
	@echo "make slow   the tests that take long, and the notebooks"
	@echo "make lint   ruff, mypy, and the order of the rooms"
	@echo "make notebooks  execute the notebooks and store their output"
	@echo "make docs       run the documentation's code and write the site to site/"
	@echo "make studies    write README's table of studies from models/"
	@echo "make bench  a quick set of benchmarks beside their peers, in interleaved runs"

set-up:
	@.ci/set-up

demo: set-up
	$(python) -m hiermodels demo

test: set-up
	$(pytest) -m "not slow"

slow: set-up
	$(python) .ci/run-notebooks.py notebooks
	$(pytest) -m slow || [ $$? -eq 5 ]

lint: set-up
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy
	.venv/bin/lint-imports

bench: set-up
	$(python) benchmarks/run.py quick

notebooks: set-up
	$(python) .ci/run-notebooks.py notebooks --write

studies: set-up
	$(python) .ci/write-study-table.py

# The notice that is turned off tells of other generators.
docs: set-up
	NO_MKDOCS_2_WARNING=1 $(python) -m mkdocs build --strict --quiet
	@echo "site/index.html"
