# Two commands for a machine that has only python3 and make: `make serve` and `make test`.
# Everything is installed into .venv; nothing needs root. `make test PYTHON=python3.13
# VENV=.venv-3.13` does the same with another Python, beside it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL = $(BIN)/python -m pip install --quiet $(PIP_OPTIONS) --editable
INSTALLING = @echo "installing into $(VENV): a minute or two, once"

# What follows `make serve`: ARGS="--bind [::1]:4433 main:app", for example.
ARGS ?=

# A checkout of Sanic's repository: `make sanic-tests CHECKOUT=../sanic`.
CHECKOUT ?=
SANIC := .venv-sanic
# What Sanic's tests import; its WebSocket tests know no newer websockets.
SANIC_TESTS := beautifulsoup4 chardet docutils pygments pytest pytest-asyncio pytest-timeout \
	sanic-testing uvicorn 'websockets<15'

FRAMEWORKS := .venv-frameworks

# A Python 2.7 with pip, the only one that Autobahn's test suite runs on: `make autobahn PYTHON2=...`;
# without it one is looked for.
PYTHON2 ?=

.PHONY: serve test test-all test-lowest test-full fuzz soak sanic-tests frameworks autobahn lint types coverage bench bench-quick bench-check bench-flow bytecodes interop interop-quick interop-publish clean

serve: $(VENV)/.serve
	$(BIN)/tercel $(ARGS)

# What is quick: three to four minutes on two cores. tests/conftest.py has the list of what is not.
test: $(VENV)/.test
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

# Everything: about twelve minutes.
test-all: $(VENV)/.test
	$(BIN)/python -m pytest $(ARGS)

# What is quick, with the lowest versions of the dependencies that pyproject.toml allows.
test-lowest:
	mkdir -p build
	$(PYTHON) tools/lowest_versions.py >build/lowest_versions.txt
	$(MAKE) test VENV=.venv-lowest PIP_OPTIONS="--constraint build/lowest_versions.txt"

# Sanic's own tests on tercel's server; what passed and failed in each file comes last.
sanic-tests: $(SANIC)/.made
	@test -d "$(CHECKOUT)/tests" || { echo "CHECKOUT=path of a checkout of Sanic's repository"; exit 2; }
	cd "$(CHECKOUT)" && PYTHONPATH="$(CURDIR)/tools" "$(CURDIR)/$(SANIC)/bin/python" \
		-m pytest -p sanic_plugin -p no:cacheprovider -q --timeout 60 \
		--ignore tests/benchmark --ignore tests/performance --ignore tests/typing \
		$(or $(ARGS),tests)

# Frameworks and middleware in common use, from PyPI, on a tercel process; writes docs/frameworks.md.
# Takes five minutes, and 0.8 GB of disk for their packages.
frameworks: $(FRAMEWORKS)/.made
	$(FRAMEWORKS)/bin/python -m tools.frameworks $(ARGS)

# The largest bodies at their full size: a gigabyte each way on each version. Takes minutes.
test-full: $(VENV)/.test
	TERCEL_TEST_FULL=1 $(BIN)/python -m pytest tests/e2e/test_large_bodies.py $(ARGS)

# Autobahn's 517 WebSocket cases; writes docs/autobahn.md. Takes half an hour.
autobahn: $(VENV)/.serve
	$(BIN)/python tools/autobahn.py $(if $(PYTHON2),--python2 "$(PYTHON2)") $(ARGS)

# What the normal suite looks for in a minute, sixty times as long.
fuzz: $(VENV)/.test
	TERCEL_FUZZ=60 $(BIN)/python -m pytest tests/fuzz tests/oracle/test_random.py --timeout 0 $(ARGS)

# A quarter of an hour of everything at once; what the server holds afterwards.
soak: $(VENV)/.test
	TERCEL_SOAK=900 $(BIN)/python -m pytest tests/soak -s $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

# Branch coverage of the protocol files of QUIC and HTTP/3 by the quick tests that are closest to
# them: two minutes. Fails below the gate in tools/coverage_gate.py. Tests that measure CPU time
# would measure the tracer, and those of HTTP/1.1 reach none of these files.
coverage: $(VENV)/.dev
	@mkdir -p build
	$(BIN)/coverage run --data-file=build/.coverage --source=tercel/quic/http3,tercel/quic/transport \
		-m pytest -q -m "not slow" -k "not h1 and not 5_ms_of_cpu" \
		tests/quic tests/hostile tests/fuzz $(ARGS)
	$(BIN)/coverage json -q --data-file=build/.coverage -o build/coverage.json
	$(BIN)/python tools/coverage_gate.py build/coverage.json

# benchmarks/README.md says what programs these need, and how to spend less than two hours on the
# first. The second takes about six minutes.
bench: $(VENV)/.bench
	$(BIN)/python benchmarks/compare.py $(ARGS)

bench-quick: $(VENV)/.bench
	$(BIN)/python benchmarks/compare.py --quick $(ARGS)

# Fails when tercel lost ground against the last results of bench-quick.
bench-check: $(VENV)/.bench
	$(BIN)/python benchmarks/compare.py --quick --check $(ARGS)

# Records how many bytecodes realistic requests take, for this Python; a test compares with it.
bytecodes: $(VENV)/.test
	$(BIN)/python -m tests.bytecodes.record

# Memory and latency beside slow clients and slow applications.
bench-flow: $(VENV)/.bench
	$(BIN)/python benchmarks/flow_control.py $(ARGS)

# interop/README.md says what programs these need, and root. An hour, and two minutes.
interop: $(VENV)/.interop
	$(BIN)/python -m interop.matrix $(ARGS)

interop-quick: $(VENV)/.interop
	$(BIN)/python -m interop.matrix --quick $(ARGS)

# The last results in the form that is kept in the repository: without links to logs.
interop-publish: $(VENV)/.interop
	$(BIN)/python -m interop.report interop/results

clean:
	rm -rf $(VENV) .venv-* benchmarks/.venvs

# A stamp for each set of dependencies; a changed pyproject.toml installs them again.
$(VENV)/.serve: $(VENV)/.made pyproject.toml
	$(INSTALLING)
	$(PIP_INSTALL) .
	touch $@

$(VENV)/.test: $(VENV)/.made pyproject.toml
	$(INSTALLING)
	$(PIP_INSTALL) '.[test]'
	touch $@ $(VENV)/.serve

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	$(INSTALLING)
	$(PIP_INSTALL) '.[dev]'
	touch $@ $(VENV)/.test $(VENV)/.serve

$(SANIC)/.made: pyproject.toml
	$(PYTHON) -m venv $(SANIC)
	$(SANIC)/bin/python -m pip install --quiet --editable '.[sanic]' $(SANIC_TESTS)
	touch $@

# One that cannot be installed is a row of the page that says so; the rest goes on.
$(FRAMEWORKS)/.made: pyproject.toml tools/frameworks/requirements.txt
	$(PYTHON) -m venv $(FRAMEWORKS)
	$(FRAMEWORKS)/bin/python -m pip install --quiet --editable .
	$(FRAMEWORKS)/bin/python -m pip install --quiet --requirement tools/frameworks/requirements.txt \
		|| grep -v '^#' tools/frameworks/requirements.txt \
		| xargs -I {} $(FRAMEWORKS)/bin/python -m pip install --quiet {} || true
	touch $@

# Debian splits the part of venv that brings pip off python3. Without it pip comes from where its
# own documentation says, so that nobody needs root to install a package.
define FETCH_PIP
from urllib.request import urlopen
exec(compile(urlopen("https://bootstrap.pypa.io/get-pip.py").read(), "get-pip.py", "exec"))
endef
export FETCH_PIP

$(VENV)/.interop: $(VENV)/.made pyproject.toml
	$(INSTALLING)
	$(PIP_INSTALL) '.[interop]'
	touch $@ $(VENV)/.serve

$(VENV)/.bench: $(VENV)/.made pyproject.toml
	$(INSTALLING)
	$(PIP_INSTALL) '.[bench]'
	touch $@ $(VENV)/.serve

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit("tercel needs Python 3.11 or later: make PYTHON=python3.x names one" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 \
		|| { $(PYTHON) -m venv --clear --without-pip $(VENV) && $(BIN)/python -c "$$FETCH_PIP" --quiet; }
	@touch $@
