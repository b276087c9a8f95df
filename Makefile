# make demo   the whole path on a small simulated set: train, quantise, generate C++, run over a stream (about 6 minutes)
# make test   every test (about 10 minutes)
# make test-arm  the kernels of ARM and big-endian machines under qemu-user (installs Debian packages where root)
# make lint   ruff, mypy, clang-format
# make bench  this project's kernel beside other runtimes, interleaved (about 2 minutes; BENCH_ARGS=--full: 10)
# make bench-suite  pytest-benchmark: kernel, preprocessing, stream decoder
# Each sets up its own virtual environment in .venv first.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO_DATA ?=
PYTEST_ARGS ?=
ARM_GRAPHS ?= 20
BENCH_ARGS ?=

NATIVE := setup.py CMakeLists.txt $(wildcard native/src/* native/bindings/* edge/libsedge/*.pyx)

.PHONY: demo test test-arm lint bench bench-suite clean
.DELETE_ON_ERROR:

$(VENV)/.python: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("libsedge needs Python 3.11 or newer here, found " + sys.version) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,bench]'
	touch $@

# The extensions again when their sources change.
$(VENV)/.installed: $(VENV)/.python $(NATIVE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

demo: $(VENV)/.installed
	$(BIN)/libsedge demo --out build/demo $(if $(DEMO_DATA),--real-data '$(DEMO_DATA)')

test: $(VENV)/.installed
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-arm: $(VENV)/.installed
	$(BIN)/python tests/arm/install_packages.py
	LIBSEDGE_ARM=required LIBSEDGE_ARM_GRAPHS=$(ARM_GRAPHS) $(BIN)/python -m pytest tests/arm $(PYTEST_ARGS)

$(VENV)/.lint: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[lint]'
	touch $@

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	git ls-files '*.cpp' '*.h' ':!tests/goldens' | xargs $(BIN)/clang-format --dry-run -Werror

$(VENV)/.peers: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench,peers]'
	touch $@

bench: $(VENV)/.peers
	$(BIN)/python benchmarks/peers.py $(BENCH_ARGS)

bench-suite: $(VENV)/.installed
	$(BIN)/python -m pytest -o pythonpath=benchmarks --benchmark-only $(PYTEST_ARGS) \
	    benchmarks/bench_kernel.py benchmarks/bench_preprocess.py benchmarks/bench_decoder.py

clean:
	rm -rf build dist $(VENV)
