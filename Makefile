# make demo   the whole path on a small simulated set: train, quantise, generate C++, run over a stream (about 2.5 minutes)
# make test   every test (about 14 minutes)
# make test-arm  kernels, wheel and a 128 MB board, for ARM and big-endian machines, emulated (installs Debian packages where root)
# make study-small  strategies compared on a small simulated set (says how long first)
# make study        the same with every reading, all splits, 10 seeds and the full simulated set (days on 2 cores)
# make study-replicated  two strategies against equal weights on eight sets of other specimens (hours on 2 cores; resumable)
# make study-plan   what `make study` runs, and its hours on this machine, without running it
# make soak   frames in thousands over TCP at three degrees of damage, counts against the truth (FRAMES=1000000: about 10 minutes)
# make overload  ten times more frames than can be decided, for a minute: shed frames counted, memory, recovery
# make latency  from a frame's arrival to its decision at 100 Hz, what either runtime adds to the net (about 8 minutes)
# make powerloss  power cuts at every write of the journal (STATES=100000: about 8 minutes)
# make lint   ruff, mypy, clang-format
# make bench  this project's kernel beside other runtimes, interleaved, and the tables of docs/performance.md (about 6 minutes; BENCH_ARGS=--full: eight times the rounds)
# make agreement  int8 kernels beside ONNX Runtime, logits and layers, and op by op (N=10000 spectra: about 15 minutes; resumable)
# make campaign  random graphs on every instruction set against the reference (GRAPHS=10000: about an hour on 2 idle cores; resumable)
# make sanitize  kernels, decoder, preprocessing and runner under AddressSanitizer and UBSan (about 10 minutes)
# make bench-arm  a part of it alone: instructions per inference on emulated aarch64, ours and other runtimes' (2 minutes)
# make bench-suite  pytest-benchmark: kernel, preprocessing, stream decoder
# make board  docs/raspberry_pi.md tried on an emulated arm64 board: install, key, bundle, model store, service (about 10 minutes)
# make wheels  manylinux wheels for x86-64 and aarch64 in dist/ (installs mmdebstrap where root)
# Each sets up its own virtual environment in .venv first.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO_DATA ?=
STUDY_ARGS ?=
PYTEST_ARGS ?=
ARM_GRAPHS ?= 20
BENCH_ARGS ?=
FRAMES ?= 1000000
STATES ?= 100000
N ?= 10000
GRAPHS ?= 10000

NATIVE := setup.py CMakeLists.txt $(wildcard native/src/* native/bindings/* edge/libsedge/*.pyx edge/libsedge/dashboard/*.json)

.PHONY: demo test soak overload latency powerloss test-arm lint bench bench-arm agreement campaign sanitize bench-suite study-small study study-plan study-replicated wheels board clean
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

test-arm: $(VENV)/.wheels
	$(BIN)/python tests/arm/install_packages.py
	LIBSEDGE_ARM=required LIBSEDGE_ARM_GRAPHS=$(ARM_GRAPHS) $(BIN)/python -m pytest tests/arm tests/edge/test_runner_float32.py $(PYTEST_ARGS)

$(VENV)/.wheels: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[wheels]'
	touch $@

wheels: $(VENV)/.wheels
	$(BIN)/python deploy/wheels.py

board: $(VENV)/.wheels
	$(BIN)/python tests/arm/board/walkthrough.py

soak: $(VENV)/.installed
	$(BIN)/python tests/edge/soak.py --frames $(FRAMES) --out build/soak

overload: $(VENV)/.installed
	$(BIN)/python tests/edge/overload.py --out build/overload

latency: $(VENV)/.installed
	$(BIN)/python benchmarks/latency.py $(BENCH_ARGS)

powerloss: $(VENV)/.installed
	$(BIN)/python tests/edge/power_loss.py --states $(STATES) --out build/powerloss/powerloss.json

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
	$(BIN)/python benchmarks/layers.py --net M --net M_fc
	$(BIN)/python benchmarks/arm_peers.py
	$(BIN)/python benchmarks/tables.py

bench-arm: $(VENV)/.peers
	$(BIN)/python benchmarks/arm_peers.py

agreement: $(VENV)/.installed
	$(BIN)/python -m libsedge_native.agreement
	$(BIN)/python benchmarks/exact.py --spectra $(N)

campaign: $(VENV)/.installed
	$(BIN)/python -m libsedge_native.campaign --graphs $(GRAPHS)

sanitize: $(VENV)/.installed
	$(BIN)/python tests/native/sanitize.py

bench-suite: $(VENV)/.installed
	$(BIN)/python -m pytest -o pythonpath=benchmarks --benchmark-only $(PYTEST_ARGS) \
	    benchmarks/bench_kernel.py benchmarks/bench_preprocess.py benchmarks/bench_decoder.py

build/study/%.h5: | $(VENV)/.installed
	mkdir -p $(@D)
	$(BIN)/libsedge simulate --preset $* --quiet -o $@

study-small: build/study/small.h5
	$(BIN)/libsedge study $< --preset small -o build/study/small $(STUDY_ARGS)
	cp build/study/small/study.json build/study/small/report.html build/study/

study: build/study/full.h5
	$(BIN)/libsedge study $< --preset full -o build/study/full $(STUDY_ARGS)
	cp build/study/full/study.json build/study/full/report.html build/study/

study-plan: build/study/full.h5
	$(BIN)/libsedge study $< --preset full -o build/study/full --plan

study-replicated: $(VENV)/.installed
	$(BIN)/python -m libsedge_training.study.replicated -o build/study/replicated $(STUDY_ARGS)
	$(BIN)/python -m libsedge_training.study.replicated_summary build/study/replicated

clean:
	rm -rf build dist $(VENV)
