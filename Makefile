# make demo and make test each work alone on a fresh clone: they make the virtual environment first.
# The words after ## are what `make` alone prints.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEERS := $(VENV)/.peers
MUTMUT := $(VENV)/.mutmut
OUT ?= demo-out
RESULTS ?= benchmarks/out
ARGS ?=
# All tests go to two processes; those that ARGS picks run in one, which need not be started first.
WORKERS ?= $(if $(ARGS),0,2)
# Where tests write: in memory where that has room, as no test cuts the power and waiting for a disk tries nothing.
IN_MEMORY := $(shell df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 2000000 {print $$6}')

PYTEST = $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal
# Errors alone: a warning about a machine's own settings is nothing that a reader of these targets can mend.
PIP_INSTALL = -m pip install -qq --disable-pip-version-check
TRY_INSTALL = $(BIN)/python -m pip --python build/package/venv install -qq --disable-pip-version-check -c build/package/constraints.txt

.PHONY: help demo test test-deep coverage mutants faults torture bench check lint types architecture protos-fresh protos package lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY) ## a year of real flights through the whole service, into demo-out
	$(BIN)/hushmeter demo --out $(OUT) $(ARGS)

test test-deep coverage mutants: export TMPDIR ?= $(or $(IN_MEMORY),/tmp)
test: $(READY) ## all tests in two processes; ARGS="-k erasure" runs some of them
	$(PYTEST) $(ARGS)

test-deep: export HUSHMETER_EXAMPLES = deep
test-deep: $(READY) ## the property tests alone, with ten times the examples
	$(PYTEST) -m hypothesis $(ARGS)

# Processes that tests start are measured too. Which modules are below 90 % is printed, and no number is a failure.
coverage: $(READY) ## all tests, and how much of each module's branches they run
	rm -rf build/coverage && mkdir -p build/coverage
	$(PYTEST) --cov --cov-report= $(ARGS)
	$(BIN)/coverage json -q -o build/coverage/coverage.json
	$(BIN)/python -m tests.coverage_report build/coverage/coverage.json

# ARGS="'hushmeter.ledger.*'" tries these alone. The tool is needed here alone, so it has a lock of its own.
mutants: $(MUTMUT) ## changes expressions where the promise rests on them, each of which a test must find
	$(BIN)/python -m tests.mutation $(ARGS)

# Kills, damages, full disks and wrong clocks; ARGS="--seed 7 --kills 24", or ARGS="--episode kill:7" for one again.
torture: $(READY) ## kills, damages, fills and misleads the real service
	$(BIN)/python -m tests.torture $(ARGS)

# Faults planted in copies of the source tree; ARGS picks some by a word of their name.
faults: $(READY) ## plants faults in copies of the code, each of which a test or the audit must find
	$(BIN)/python -m tests.faults.planting $(ARGS)

# The peers are needed here alone, so they have a lock of their own.
bench: $(PEERS) ## accuracy and speed beside other engines; ARGS=--quick
	$(BIN)/python -m benchmarks --out $(RESULTS) $(ARGS)

check: lint types architecture protos-fresh ## what CI runs first: these four

lint: $(READY) ## ruff and buf
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/buf lint

types: $(READY) ## mypy
	$(BIN)/mypy

architecture: $(READY) ## the import contracts
	$(BIN)/lint-imports --no-cache

# The generated code is committed; this fails when it is not what proto/ generates.
protos-fresh: $(READY) ## whether src/hushmeter/api is what proto/ generates
	rm -rf build/api && mkdir -p build/api
	$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=build/api --pyi_out=build/api --grpc_python_out=build/api $$(find proto -name '*.proto' | sort)
	cd build/api && find . -name '*.py*' | sort | while read -r f; do cmp "$$f" "../../src/$$f" || exit 1; done

protos: $(READY) ## generate src/hushmeter/api from proto/
	$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=src --pyi_out=src --grpc_python_out=src $$(find proto -name '*.proto' | sort)
	find src/hushmeter/api -type d -exec touch {}/__init__.py \;

# The wheel is built from the sdist, so that whatever the sdist lacks shows here. The constraints are the lock's versions.
package: $(READY) ## build sdist and wheel, and try them in a virtual environment of their own
	rm -rf dist build/package && mkdir -p build/package
	$(BIN)/python -m hatchling build -t sdist -d dist
	$(BIN)/python -m pip wheel -qq --disable-pip-version-check --no-deps --no-build-isolation -w dist dist/*.tar.gz
	sed -n '/^[a-z0-9].*==/s/ *\\$$//p' requirements.lock > build/package/constraints.txt
	$(BIN)/python -m venv --without-pip build/package/venv
	$(TRY_INSTALL) dist/*.whl
	cd build/package && venv/bin/python -c 'import hushmeter.sdk as sdk; print(", ".join(sdk.__all__))'
	$(TRY_INSTALL) "$$(ls dist/*.whl)[server,analyst]"
	cd build/package && venv/bin/hushmeter --version

# The lock names versions and hashes and no index, so that any mirror serves it.
lock: $(READY) ## write the lock files anew from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --all-extras --group test --group check --group build --universal \
	  --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate -q -o requirements.lock
	$(BIN)/uv pip compile --group bench --constraint requirements.lock --universal --no-build \
	  --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate -q -o benchmarks/requirements.lock
	$(BIN)/uv pip compile --group mutation --constraint requirements.lock --universal --no-build \
	  --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate -q -o tests/mutation/requirements.lock

$(READY): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP_INSTALL) --require-hashes -r requirements.lock
	$(BIN)/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	touch $@

$(PEERS): $(READY) benchmarks/requirements.lock
	$(BIN)/python $(PIP_INSTALL) --require-hashes -r benchmarks/requirements.lock
	touch $@

$(MUTMUT): $(READY) tests/mutation/requirements.lock
	$(BIN)/python $(PIP_INSTALL) --require-hashes -r tests/mutation/requirements.lock
	touch $@

clean: ## remove everything that these targets make
	rm -rf $(VENV) build dist demo-out benchmarks/out
