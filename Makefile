# make reproduce     sets everything up, runs the default study and names the report
# make test          sets everything up and runs all checks and tests
# make test-cluster  sets everything up and runs the small study on a SLURM that it starts here (root, Debian packages)
# make test-faults   sets everything up, kills the stages of a small study a hundred times and damages its files
# make benchmark     sets everything up, and peers' packages beside it, and measures speed and distortion
# make fuzz          sets everything up, and a fuzzer beside it, and reads damaged files of every kind
# make environment   only sets up (.venv, from requirements.lock)

PYTHON ?= python3
UV_VERSION := 0.13.9
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
PEERS := $(VENV)/.peers
FUZZER := $(VENV)/.fuzzer
BUILDING := benchmarks/build-constraints.txt
UV := $(BIN)/uv --quiet --no-progress
STYLED := src tests benchmarks workflow/scripts
COVERAGE := 90

.DEFAULT_GOAL := help
.PHONY: help environment reproduce benchmark fuzz test test-cluster test-faults pipeline faults unit style types \
        workflow lock environments clean

help:
	@echo "make reproduce    run the default study; ends with the path of its report"
	@echo "make test         run all checks and tests"
	@echo "make test-cluster run the cluster's tests on a SLURM of two nodes that is started on this machine"
	@echo "make test-faults  run the tests of faults: processes killed, files damaged, disks full"
	@echo "make benchmark    measure speed and distortion beside peers' attacks; OPTIONS=--quick for a look"
	@echo "make fuzz         read more than 100,000 damaged files; OPTIONS='--inputs 100' for a look"
	@echo "make environment  set up $(VENV) and nothing else"
	@echo "make lock         renew the locks from requirements*.in, and envs/"
	@echo "make clean        remove $(VENV) and caches (results/ stays)"

environment: $(STAMP)
	@echo "$(VENV) is ready."

# The stamp is as old as the last complete set-up: a new lock sets up again, a second call does nothing.
$(STAMP): requirements.lock pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, $(PYTHON) is not; name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; \
	  exit 1; }
	@echo "Setting up $(VENV) (some minutes the first time) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
	  echo "$(PYTHON) -m venv failed; on Debian and Ubuntu install python3-venv" >&2; rm -rf $(VENV); exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@# Compiled once here: where python may not write, each of the study's processes would compile torch again.
	@$(UV) pip install --python $(BIN)/python --require-hashes --compile-bytecode --requirement requirements.lock
	@$(UV) pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

reproduce: $(STAMP)
	@$(BIN)/snakemake --cores all
	@echo "The report: $(CURDIR)/results/embedded/report.html"

# The peers' lock keeps to the versions of requirements.lock. It is installed as it stands: some peers ask for versions
# of other packages that are years old and that they do not need.
$(PEERS): $(STAMP) requirements-benchmark.lock $(BUILDING)
	@echo "Adding peers' packages to $(VENV) ..."
	@$(UV) pip install --python $(BIN)/python --no-deps --require-hashes --compile-bytecode \
	  --build-constraints $(BUILDING) --requirement requirements-benchmark.lock
	@touch $(PEERS)

benchmark: $(PEERS)
	@$(BIN)/python -m benchmarks $(OPTIONS)

# Where no wheel of atheris fits this machine, the fuzzer goes by hypothesis alone, and says so.
$(FUZZER): $(STAMP) requirements-fuzz.lock
	@$(UV) pip install --python $(BIN)/python --no-deps --require-hashes --only-binary :all: \
	  --requirement requirements-fuzz.lock || echo "atheris cannot be installed here"
	@touch $(FUZZER)

fuzz: $(FUZZER)
	@$(BIN)/python -m tests.fuzz $(OPTIONS)

# Two jobs for two cores: the pipeline's tests, and beside them everything else. A failure does not hide another.
test: $(STAMP)
	@$(MAKE) --no-print-directory --keep-going --jobs=2 pipeline style types workflow faults unit
	@$(BIN)/coverage combine --quiet --data-file=.coverage .coverage.pipeline .coverage.unit
	@$(BIN)/coverage report --skip-covered --fail-under=$(COVERAGE)
	@echo "All checks and tests passed."

# For the fuzzer's short run.
unit: $(FUZZER)

pipeline unit: $(STAMP)
	@COVERAGE_FILE="$(CURDIR)/.coverage.$@" $(BIN)/python -m pytest --quiet --cov --cov-report= tests/$@

# Left out, with the reason in its last lines, where SLURM is not installed or cannot be started.
test-cluster: $(STAMP)
	@$(BIN)/python -m pytest --quiet tests/cluster

# Some of them, with all other tests.
faults: $(STAMP)
	@$(BIN)/python -m pytest --quiet -m short tests/faults

# Some need root and leave themselves out without it, with the reason in the last lines.
test-faults: $(STAMP)
	@$(BIN)/python -m pytest --quiet tests/faults

style: $(STAMP)
	@$(BIN)/ruff check --quiet $(STYLED)
	@$(BIN)/ruff format --quiet --check $(STYLED)

types: $(STAMP)
	@$(BIN)/mypy --no-error-summary

workflow: $(STAMP)
	@$(BIN)/snakefmt --check --compact-diff --line-length 120 Snakefile workflow/rules
	@$(BIN)/snakemake --lint
	@$(BIN)/python workflow/scripts/environments.py --check

lock: $(STAMP)
	@$(UV) pip compile --universal --generate-hashes --python-version 3.11 --no-header \
	  --output-file requirements.lock requirements.in
	@$(UV) pip compile --universal --generate-hashes --python-version 3.11 --no-header \
	  --constraint requirements.lock --override requirements-benchmark.in --build-constraints $(BUILDING) \
	  --output-file requirements-benchmark.lock requirements-benchmark.in
	@$(UV) pip compile --universal --generate-hashes --python-version 3.11 --no-header \
	  --constraint requirements.lock --output-file requirements-fuzz.lock requirements-fuzz.in
	@$(MAKE) --no-print-directory environments

environments:
	@$(BIN)/python workflow/scripts/environments.py

clean:
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage* src/wolfe.egg-info
