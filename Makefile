# make train   train a small GPT on the built-in stories and show what it learned (minutes, no GPU)
# make test    run the test suite
# make lint    ruff and mypy
# make clean   remove the virtual environment and caches (runs/ is yours: it stays)
#
# Needs Python 3.11 or newer. PYTHON=/path/to/python chooses one; ARGS="--max-steps 100" is passed on.

NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
ifndef PYTHON
PYTHON := $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p $(NEW_ENOUGH) && echo $$p && break; done)
endif
BIN := .venv/bin
CODE := $(wildcard tinytensor gpt data benchmarks tests setup.py)

.PHONY: train test lint clean
.DELETE_ON_ERROR:

train: .venv/train.done
	$(BIN)/python -m gpt.train $(ARGS)

test: .venv/test.done
	$(BIN)/python -m pytest -q -n auto $(ARGS)

lint: .venv/test.done
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy $(filter-out tests setup.py,$(CODE))

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp per set of extras: pip runs again only when setup.py has changed.
.venv/train.done: EXTRAS = train
.venv/test.done: EXTRAS = train,test,lint
.venv/%.done: setup.py | .venv/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[$(EXTRAS)]'
	touch $@

.venv/bin/python:
	@$(or $(PYTHON),false) $(NEW_ENOUGH) || { \
	    echo 'make: needs Python 3.11 or newer, and $(or $(PYTHON),python3) is not.' >&2; \
	    echo '      Install one, or name it: make PYTHON=/path/to/python3.11' >&2; exit 2; }
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 2; }
