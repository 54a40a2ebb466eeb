# The two commands of a fresh clone are `make demo` and `make test`; both prepare .venv first.
# Needed on the machine: python3 >= 3.11 with venv, g++, make, perl. All else comes from PyPI into .venv.

PYTHON ?= python3
CONFIG ?= edge16
SEED ?= 1
SEEDS ?= 1
RUNS ?= 1
LAYERS ?= 600
MODELS ?= 500
WORKERS ?= auto
BACKEND ?= isa
FUZZ ?= 20000

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DELETE_ON_ERROR:
.PHONY: help setup demo test test-quick lint format docs verilog verify verify-long verify-host fuzz conformance bench \
        bench-tiny bench-zoo fingerprints clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## make .venv with the package and its development tools, pinned by constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@case "$$(pwd)" in *[:\$$\{\}]*) \
	  echo "error: the path of this folder must have no : \$$ { or }, which Python's installers take apart: move it" >&2; exit 1;; esac
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: python3 must be 3.11 or newer: set PYTHON=/path/to/python3.11 (found '$(PYTHON)')" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "error: python3 must have the venv module: install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@for tool in g++ perl; do command -v $$tool >/dev/null || \
	  { echo "error: $$tool must be installed (Debian, Ubuntu: apt install g++ perl)" >&2; exit 1; }; done
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup ## generate, compile, and classify 100 images of digits on the RTL
	$(BIN)/systolith demo

test: setup ## run all tests, with SEEDS (default 1) times as many random cases
	$(BIN)/python -m pytest -n $(WORKERS) --seeds $(SEEDS)

test-quick: setup ## run the tests that need no simulator build and take no time each: about a minute
	$(BIN)/python -m pytest -n $(WORKERS) -m "not rtl and not slow"

lint: setup ## check style, imports, types, and the generated Verilog; warnings are errors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/basedpyright --warnings
	$(BIN)/python -m systolith.sim.rtl.lint tiny4 edge16

format: setup ## format the Python code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup ## write docs/isa.md and docs/registers.md from their definitions
	$(BIN)/systolith docs

verilog: setup ## generate CONFIG (default edge16) into build/CONFIG
	$(BIN)/systolith generate --config $(CONFIG) -o build/$(notdir $(basename $(CONFIG)))

verify: setup ## run the cocotb testbenches on CONFIG with SEED, RUNS times
	$(BIN)/systolith verify --config $(CONFIG) --seed $(SEED) --runs $(RUNS)

verify-long: setup ## run LAYERS (default 600) random layers, networks and programs (some broken) on the RTL, with stalling memories
	$(BIN)/python -m systolith.sim.campaign --layers $(LAYERS) --seed $(SEED)

verify-host: setup ## run MODELS (default 500) random networks of which the host runs a part, on BACKEND (default isa)
	$(BIN)/python -m systolith.sim.campaign --host --layers $(MODELS) --seed $(SEED) --backend $(BACKEND)

fuzz: setup ## damage FUZZ (default 20000) files of each kind, read and run them; those that go wrong are in build/fuzz
	$(BIN)/python -m systolith.sim.fuzz.campaign --count $(FUZZ) --keep build/fuzz

conformance: setup ## run ONNX's node tests of every operator that runs on the accelerator; writes docs/operators.md
	$(BIN)/python -m systolith.sim.conformance.node_tests

bench: setup ## measure utilization and simulation speed
	$(BIN)/systolith bench

bench-tiny: setup ## the four MLPerf Tiny topologies on the RTL
	$(BIN)/systolith bench --suite tiny

bench-zoo: setup ## nine ImageNet topologies on BACKEND (default isa); the first time, they are built and quantized
	$(BIN)/systolith bench --suite zoo --backend $(BACKEND)

fingerprints: setup ## compare all generated files with benchmarks/fingerprints.txt, byte for byte
	$(BIN)/python -m systolith.benchmarks.fingerprints

clean: ## remove what was built here; simulator builds in the user's cache folder stay
	rm -rf build .pytest_cache .ruff_cache .hypothesis systolith.egg-info $(VENV)
	find . -name __pycache__ -prune -exec rm -rf {} +
