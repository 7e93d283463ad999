# make demo and make test each work alone on a fresh clone: they make the virtual environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEERS := $(VENV)/.peers
OUT ?= demo-out
RESULTS ?= benchmarks/out
ARGS ?=
# All tests go to two processes; those that ARGS picks run in one, which need not be started first.
WORKERS ?= $(if $(ARGS),0,2)
# Where tests write: in memory where that has room, as no test cuts the power and waiting for a disk tries nothing.
IN_MEMORY := $(shell df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 2000000 {print $$6}')

.PHONY: demo test faults torture bench check lint types architecture protos-fresh protos lock clean

demo: $(READY)
	$(BIN)/hushmeter demo --out $(OUT) $(ARGS)

test: export TMPDIR ?= $(or $(IN_MEMORY),/tmp)
test: $(READY)
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal $(ARGS)

# Kills, damages, full disks and wrong clocks; ARGS="--seed 7 --kills 24", or ARGS="--episode kill:7" for one again.
torture: $(READY)
	$(BIN)/python -m tests.torture $(ARGS)

# Faults planted in copies of the source tree; ARGS picks some by a word of their name.
faults: $(READY)
	$(BIN)/python -m tests.faults.planting $(ARGS)

# The peers are needed here alone, so they have a lock of their own.
bench: $(PEERS)
	$(BIN)/python -m benchmarks --out $(RESULTS) $(ARGS)

check: lint types architecture protos-fresh

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/buf lint

types: $(READY)
	$(BIN)/mypy

architecture: $(READY)
	$(BIN)/lint-imports --no-cache

# The generated code is committed; this fails when it is not what proto/ generates.
protos-fresh: $(READY)
	rm -rf build/api && mkdir -p build/api
	$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=build/api --pyi_out=build/api --grpc_python_out=build/api $$(find proto -name '*.proto' | sort)
	cd build/api && find . -name '*.py*' | sort | while read -r f; do cmp "$$f" "../../src/$$f" || exit 1; done

protos: $(READY)
	$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=src --pyi_out=src --grpc_python_out=src $$(find proto -name '*.proto' | sort)
	find src/hushmeter/api -type d -exec touch {}/__init__.py \;

# The lock names versions and hashes and no index, so that any mirror serves it.
lock: $(READY)
	$(BIN)/uv pip compile pyproject.toml --all-extras --group test --group check --group build --universal \
	  --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate -q -o requirements.lock
	$(BIN)/uv pip compile --group bench --constraint requirements.lock --universal --no-build \
	  --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate -q -o benchmarks/requirements.lock

$(READY): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

$(PEERS): $(READY) benchmarks/requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r benchmarks/requirements.lock
	touch $@

clean:
	rm -rf $(VENV) build dist demo-out benchmarks/out
