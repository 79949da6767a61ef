# Everything a person runs here. Each target makes what it needs: .venv, the compiled core, the parts of the tests.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers
ORACLE := .venv-oracle
CROSS := .venv-cross
CORE := setup.py pyproject.toml $(wildcard src_c/*.[ch] fastchannels/_core/*.pyx fastchannels/_core/*.pxd)
JOBS ?= $(shell getconf _NPROCESSORS_ONLN)
C_FILES = $(wildcard src_c/*.[ch] tests/c/*.[ch] tests/fuzz/*.[ch] benchmarks/c/*.[ch])

.PHONY: help demo demo-check test test-py test-c test-crash test-tsan test-debug test-redis-py test-engines cross fuzz lint bench bench-check bench-micro parts clean

help: ## What can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

# ------------------------------------------------------------------ set-up

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "fastchannels needs CPython 3.10 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.12 ..."; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) -V)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1' 'setuptools>=77' wheel 'cython>=3.1'
	@touch $@

$(VENV)/.built: $(VENV)/.made $(CORE)
	@echo "building fastchannels (the C core takes about a minute); log: build/build.log"
	@mkdir -p build
	@$(BIN)/python -m pip install --no-build-isolation --verbose --editable '.[django,redis]' 2>&1 | tee build/build.log \
	  | sed -nuE 's/^ *(\[[0-9]+\/[0-9]+\] compiling .*)/  \1/p' \
	  || { tail -n 60 build/build.log; echo "the build failed: a C compiler and the headers of Python and zlib are needed (on Debian: apt-get install gcc python3-dev zlib1g-dev)"; exit 1; }
	@touch $@

$(VENV)/.demo: $(VENV)/.built
	@echo "installing what the demo needs"
	@$(BIN)/python -m pip install --quiet --group demo
	@touch $@

$(VENV)/.test: $(VENV)/.demo
	@echo "installing what the tests need"
	@$(BIN)/python -m pip install --quiet --group test
	@touch $@

$(VENV)/.lint: $(VENV)/.test
	@$(BIN)/python -m pip install --quiet --group lint
	@touch $@

# An environment beside the project's own, in the directory of the target: with what it holds, and its dependency group.
define environment
@echo "making $(@D) with $(1)"
@$(PYTHON) -m venv $(@D)
@$(@D)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
@$(@D)/bin/python -m pip install --quiet --group $(2)
endef

$(PEERS)/.made: pyproject.toml
	$(call environment,the servers and layers to compare with,peers)
	@if command -v npm >/dev/null; then npm install --silent --no-save --prefix $(PEERS) ws@8.23.0; else echo "no npm: the rows go without Node's ws"; fi
	@touch $@

$(ORACLE)/.made: pyproject.toml
	$(call environment,Channels 1.1.8,oracle)
	@touch $@

$(CROSS)/.made: pyproject.toml
	$(call environment,a compiler for other systems (about 440 MB),cross)
	@touch $@

parts: ## Find or install the servers and browser that the tests use
	@tests/parts.sh

# ------------------------------------------------------------------ the main job

demo: $(VENV)/.demo ## The chat on http://127.0.0.1:8000/ (PORT=8001 for another port)
	@exec $(BIN)/python examples/demo.py --port $(or $(PORT),8000)

demo-check: $(VENV)/.demo ## The demo, driven and checked by two WebSocket clients
	@$(BIN)/python examples/demo_check.py

# ------------------------------------------------------------------ tests

test: test-c test-py ## All tests

test-py: $(VENV)/.test parts
	@$(BIN)/python -m pytest -q

test-c: ## The C units under AddressSanitizer and UndefinedBehaviorSanitizer, and a short run of the fuzz targets
	@$(MAKE) --no-print-directory -j $(JOBS) -C tests/c
	@if echo 'int main(void){return 0;}' | $(CC) -fsanitize=thread -x c -o /dev/null - 2>/dev/null; \
	  then $(MAKE) --no-print-directory -C tests/c tsan; else echo "$(CC) has no ThreadSanitizer: test-tsan is left out"; fi
	@$(MAKE) --no-print-directory -j $(JOBS) -C tests/fuzz

test-crash: ## Processes killed under load, 10,000 times (KILLS=10000), and the shared segment checked after each
	@$(MAKE) --no-print-directory -C tests/c crash KILLS=$(or $(KILLS),10000)

test-tsan: ## Threads on the shared segment under ThreadSanitizer
	@$(MAKE) --no-print-directory -C tests/c tsan

fuzz: ## The fuzz targets for longer (SECONDS=60 each)
	@$(MAKE) --no-print-directory -C tests/fuzz long SECONDS=$(or $(SECONDS),60)

test-debug: $(VENV)/.test parts ## The tests of core and layers on a debug build: bounds and None checks on
	@rm -f $(VENV)/.built
	@FASTCHANNELS_DEBUG=1 $(BIN)/python setup.py -q build_ext --inplace --force
	@trap 'rm -f fastchannels/_core/*.so' EXIT; $(BIN)/python -m pytest -q tests/core tests/layers tests/server

test-redis-py: $(VENV)/.test parts ## The Redis layer under redis-py 5, 6, 7 and 8 (IDLE=20 seconds without a message)
	@PYTHON=$(BIN)/python IDLE=$(or $(IDLE),20) tests/redis_py.sh

test-engines: $(VENV)/.test parts ## The Redis layer on Redis 6.2, and on Valkey (VALKEY=path of a valkey-server)
	@PYTHON=$(BIN)/python VALKEY=$(VALKEY) tests/engines.sh

cross: $(VENV)/.lint $(CROSS)/.made ## What is for macOS and Windows: types checked, C compiled and linked with their headers, nothing run
	@$(BIN)/mypy --platform darwin --cache-dir build/cross/mypy
	@PYTHON=$(BIN)/python CC='$(CURDIR)/$(CROSS)/bin/python -m ziglang cc' ZIG_GLOBAL_CACHE_DIR=$(CURDIR)/$(CROSS)/cache \
	  tests/cross.sh

lint: $(VENV)/.lint ## ruff, mypy --strict, clang-format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/clang-format --dry-run --Werror $(C_FILES)

# ------------------------------------------------------------------ benchmarks

bench: $(VENV)/.test $(PEERS)/.made $(ORACLE)/.made parts ## fastchannels beside its peers, once in 15 to 20 minutes (ROUNDS=5 ONLY="layers talk")
	@$(BIN)/python -m benchmarks --rounds $(or $(ROUNDS),1) --members 10 100 1000 10000 50000 --processes 1 2 $(if $(ONLY),--only $(ONLY))

bench-check: $(VENV)/.test ## Instructions of the kernels beside those written down (UPDATE=1 writes them down; ROWS="codec head")
	@command -v valgrind >/dev/null || { echo "valgrind is missing: apt-get install valgrind"; exit 1; }
	@$(BIN)/python -m benchmarks.check $(if $(UPDATE),--update) $(ROWS)

bench-micro: $(VENV)/.test ## The compiled parts beside other libraries, by pytest-benchmark: a minute
	@$(BIN)/python -m pytest -q benchmarks/bench_*.py --benchmark-enable --benchmark-group-by=group --benchmark-sort=min --benchmark-columns=median,min,iqr,rounds

clean:
	rm -rf $(VENV) $(PEERS) $(ORACLE) $(CROSS) build dist var *.egg-info fastchannels/_core/*.so fastchannels/_core/*.c
