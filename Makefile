# The whole developer interface; `make help` lists it. pip's options go into PIP_ARGS.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help install model demo up test test-long test-gpu
.PHONY: bench-burst bench-cold bench-cold-gpu bench-consolidation bench-control-plane
.PHONY: bench-engine bench-fetch bench-fidelity bench-neighbour bench-scale bench-slo bench-trace
.PHONY: bench-tradeoff lint clean

VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
BENCH_INSTALLED := $(VENV)/.installed-bench
STATE := $(or $(HYDRASERVE_STATE),.hydraserve)
TESTS ?= tests
# Processes that share the tests; a folder's stack is started by one of them.
TEST_PROCESSES ?= 2
PYTEST = $(PY) -m pytest -n $(TEST_PROCESSES) --dist loadscope --no-loadscope-reorder
ARGS ?=
# The first of these that is 3.11 or newer and can make virtual environments.
CHECK := import ensurepip, sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$p -c '$(CHECK)' 2>/dev/null && echo $$p && break; done)

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 28

install: $(INSTALLED) ## make the virtual environment and install everything into it

model: install ## fetch the demo model once
	@$(PY) -m deploy.local model

demo: install ## start the stack, cold-start a chat model on it, show the timeline, end
	@$(PY) -m deploy.local demo $(ARGS)

up: install ## start the stack and keep it; Ctrl-C ends it
	@$(PY) -m deploy.local up $(ARGS)

test: model ## run the test suite
	@$(PYTEST) -m "not long and not gpu" $(TESTS) $(ARGS)

test-long: model ## run everything, with full counts
	@$(PY) -m pytest -m "not gpu" $(TESTS) $(ARGS)

test-gpu: install ## run what needs a CUDA device
	@$(PY) -m pytest -m gpu $(TESTS) $(ARGS)

bench-fetch: $(BENCH_INSTALLED) ## measure the fetcher against caps of the network and other clients
	@$(PY) -m benchmarks.fetching $(ARGS)

bench-burst: install ## measure bursts of requests to cold models
	@$(PY) -m benchmarks.burst $(ARGS)

bench-cold: $(BENCH_INSTALLED) ## measure how long first requests wait, by kind of start
	@$(PY) -m benchmarks.cold $(ARGS)

bench-cold-gpu: $(BENCH_INSTALLED) ## measure the same on a GPU, with weights of a 7B model's shape
	@$(PY) -m benchmarks.coldgpu $(ARGS)

bench-consolidation: $(BENCH_INSTALLED) ## measure what it takes that pipelines become one worker
	@$(PY) -m benchmarks.consolidation $(ARGS)

bench-control-plane: model $(BENCH_INSTALLED) ## measure the control plane with a thousand nodes
	@$(PY) -m benchmarks.controlplane $(ARGS)

bench-engine: model $(BENCH_INSTALLED) ## measure the engine on this machine's processors
	@$(PY) -W ignore -m benchmarks.engine $(ARGS)

bench-fidelity: model $(BENCH_INSTALLED) ## measure how far the simulator is from real processes
	@$(PY) -m benchmarks.fidelity $(ARGS)

bench-neighbour: model $(BENCH_INSTALLED) ## measure what one tenant's load costs another
	@$(PY) -m benchmarks.neighbour $(ARGS)

bench-slo: $(BENCH_INSTALLED) ## simulate the published evaluation: targets met and cost, by policy
	@$(PY) -m benchmarks.slo $(ARGS)

bench-scale: $(BENCH_INSTALLED) ## simulate an hour of a thousand nodes and 100,000 models
	@$(PY) -m benchmarks.scale $(ARGS)

bench-tradeoff: $(BENCH_INSTALLED) ## measure pipelines of every shape beside what was predicted
	@$(PY) -m benchmarks.tradeoff $(ARGS)

bench-trace: model $(BENCH_INSTALLED) ## replay traces on real processes: targets met and cost, by policy
	@$(PY) -m benchmarks.trace $(ARGS)

lint: install ## check style, types and the import contracts
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports

clean: ## remove the stack's state folder
	rm -rf $(STATE)

# The stack in containers. COMPOSE is the command, such as `docker compose`; its options and the
# images' are in deploy/compose/.env. PREPARE=--one-store-key is for S3 servers other than MinIO.
COMPOSE ?= docker compose
COMPOSE_STACK = $(COMPOSE) --file deploy/compose/compose.yaml
COMPOSE_IMAGES := proxy gateway-0 scheduler-0 fetcher-0 agent-0 importer bootstrap
.PHONY: compose-prepare compose-build compose-up compose-demo compose-down

compose-prepare: ## make the secrets and the options of the stack in containers, once
	@$(PYTHON) -m deploy.compose.prepare $(PREPARE)

compose-build: compose-prepare ## build the images
	@$(COMPOSE_STACK) build $(COMPOSE_IMAGES)

compose-up: compose-build ## start the stack in containers and wait until it is healthy
	@$(COMPOSE_STACK) up --detach --wait --no-build

compose-demo: model compose-up ## show the demo's story on the stack in containers
	@$(PY) -m deploy.compose.demo $(ARGS)

compose-down: ## end the stack in containers; with ARGS=--volumes its data too
	@$(COMPOSE_STACK) down $(ARGS)

# What the benchmarks draw with: no test needs it.
$(BENCH_INSTALLED): $(INSTALLED)
	@$(PY) -m pip install --quiet $(PIP_ARGS) --editable '.[bench]'
	@touch $@

$(INSTALLED): pyproject.toml
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer with venv found; set PYTHON=" >&2; exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing into $(VENV); the first time takes minutes"
	@$(PY) -m pip install --quiet --compile $(PIP_ARGS) --editable '.[dev]'
	@$(PY) -m compileall -q libs services deploy
	@touch $@
