# Everything here works on a fresh Debian 12 as root with python3, pip and apt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# With DOCKER_CLI a test run takes another docker command than the one in PATH.

.PHONY: demo test lint types unit bench oracle vm-test clients soak packages clean

$(BIN)/kistd: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		(apt-get update -q && apt-get install -qy python3-venv && $(PYTHON) -m venv $(VENV))
	$(BIN)/pip install -q -e .
	touch $@

$(VENV)/.dev: pyproject.toml $(BIN)/kistd
	$(BIN)/pip install -q -e '.[dev]'
	touch $@

demo: $(BIN)/kistd
	bash scripts/demo.sh $(BIN)

# What tests and the oracle need of the distribution; nothing of it is needed to use kist.
packages:
	bash scripts/packages.sh

lint: $(VENV)/.dev
	$(BIN)/ruff check src tests scripts bench
	$(BIN)/ruff format --check src tests scripts bench

types: $(VENV)/.dev
	$(BIN)/mypy

unit: $(VENV)/.dev
	$(BIN)/pytest tests/unit

# In two processes, as most tests wait most of the time.
test: packages lint types
	$(BIN)/pytest -n 2 --dist loadfile --durations 15 tests --ignore tests/oracle --ignore tests/vm --ignore tests/faults

# The same commands and requests to Debian's dockerd, which says what the right answer is.
# In a network namespace, so that the host's network of both is alike.
oracle: packages $(VENV)/.dev
	unshare --net sh -c 'ip link set lo up && exec $(BIN)/pytest tests/oracle'

# On Debian's own kernel with cgroup v2 alone, emulated; VM_TESTS="tests/vm -x" runs something else.
vm-test: $(VENV)/.dev
	bash scripts/packages.sh vm
	bash scripts/vm.sh $(VM_TESTS)

# kistd, zygote and monitors killed at random while containers churn: KIST_SOAK_SECONDS=20 make soak
soak: packages $(VENV)/.dev
	$(BIN)/pytest tests/faults

# docker-py's own integration tests, of a checkout: make clients DOCKER_PY=../docker-py
clients: packages $(VENV)/.dev
	unshare --mount --net --propagation shared sh -c 'ip link set lo up && \
		exec $(BIN)/python -m tests.clients.docker_py_suite $(DOCKER_PY)'

bench: packages $(VENV)/.dev
	$(BIN)/python bench/run.py --write

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
