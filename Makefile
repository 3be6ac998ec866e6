# Two commands for a machine that has only python3 and make: `make serve` and `make test`.
# Everything is installed into .venv; nothing needs root.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# What follows `make serve`: ARGS="--bind [::1]:4433 main:app", for example.
ARGS ?=

.PHONY: serve test lint types clean

serve: $(VENV)/.serve
	$(BIN)/tercel $(ARGS)

test: $(VENV)/.test
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

clean:
	rm -rf $(VENV)

# A stamp for each set of dependencies; a changed pyproject.toml installs them again.
$(VENV)/.serve: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.test: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@ $(VENV)/.serve

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/.test $(VENV)/.serve

# Debian splits the part of venv that brings pip off python3. Without it pip comes from where its
# own documentation says, so that nobody needs root to install a package.
define FETCH_PIP
from urllib.request import urlopen
exec(compile(urlopen("https://bootstrap.pypa.io/get-pip.py").read(), "get-pip.py", "exec"))
endef
export FETCH_PIP

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit("tercel needs Python 3.11 or later: make PYTHON=python3.x names one" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 \
		|| { $(PYTHON) -m venv --clear --without-pip $(VENV) && $(BIN)/python -c "$$FETCH_PIP" --quiet; }
	@touch $@
