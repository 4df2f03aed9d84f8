# The commands of the project. Each sets up what it needs; nothing is installed outside the tree.
#
#   .venv        for the demo and the benchmarks (optimised build)
#   .venv-X.Y    for the tests and checks on Python X.Y (build with assertions)
#   results/     what the commands write
#
# PYTHON=/path/to/python chooses the interpreter; the default is python3 if it is 3.11 or later,
# else the newest that is found. CARGO_TARGET_DIR builds elsewhere than in target/.

SHELL := /bin/sh
export CARGO ?= cargo
PYTHON := $(or $(PYTHON),$(shell sh scripts/find_python.sh 2>/dev/null))
VERSION = $(shell '$(PYTHON)' -c 'import sys; print("%d.%d" % sys.version_info[:2])')
VENV = .venv-$(VERSION)
BENCH_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-all leaks sim torture mutants loom asan check format bench clean \
	need-python test-venv

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

need-python:
	@test -n '$(PYTHON)' || sh scripts/find_python.sh

demo: need-python ## one unmodified program on asyncio, then on oxloop: figures side by side
	@sh scripts/make_venv.sh '$(PYTHON)' .venv requirements/demo.txt
	@sh scripts/install_wheel.sh .venv release
	@.venv/bin/python demo/compare.py
	@.venv/bin/python demo/one_line.py

test-venv: need-python
	@sh scripts/make_venv.sh '$(PYTHON)' '$(VENV)' requirements/test.txt
	@sh scripts/install_wheel.sh '$(VENV)'

test: test-venv ## the tests on the default Python (without the programs of tests/ecosystem)
	@rm -rf results/test
	@status=0; \
	sh scripts/test_rust.sh results/test || status=1; \
	sh scripts/test_python.sh '$(VENV)' results/test || status=1; \
	'$(VENV)/bin/python' scripts/sum_results.py results/test || status=1; \
	exit $$status

test-all: need-python ## the tests on every supported Python that is found, and the programs
	@rm -rf results/test-all
	@status=0; \
	sh scripts/test_rust.sh results/test-all || status=1; \
	sh scripts/test_versions.sh results/test-all 3.11 3.12 3.13 3.14 3.15 || status=1; \
	'$(PYTHON)' scripts/sum_results.py results/test-all || status=1; \
	exit $$status

leaks: test-venv ## the leak tests at full length: the figures of each, a few minutes
	@mkdir -p results/leaks
	@OXLOOP_FULL=1 '$(VENV)/bin/python' -m pytest -v tests/leaks \
		--junit-xml='results/leaks/pytest-$(VERSION).xml'

SEEDS ?= 10000
SIM = $(CARGO) run --quiet -p oxloop-sim --profile test-wheel --

sim: ## seeded runs of the core on the simulated kernel (SEEDS=..., default 10000)
	@$(SIM) run --seeds $(SEEDS) --twice 200

torture: ## every call of every scenario fails once, with each error that it may give
	@$(SIM) torture

mutants: ## every planted bug of the core must be found
	@sh scripts/mutants.sh results/mutants

loom: ## models of the injector, over every interleaving of three preemptions
	@sh scripts/loom.sh

asan: need-python ## hostile objects against an extension under AddressSanitizer
	@rm -rf results/asan
	@status=0; \
	PYTHON='$(PYTHON)' sh scripts/test_asan.sh results/asan || status=1; \
	'$(PYTHON)' scripts/sum_results.py results/asan || status=1; \
	exit $$status

check: test-venv ## formatting, lints, layer rules, types, and whether the stub is true
	@sh scripts/make_venv.sh '$(PYTHON)' '$(VENV)' requirements/check.txt
	$(CARGO) fmt --all --check
	PYO3_PYTHON='$(CURDIR)/$(VENV)/bin/python' $(CARGO) clippy --quiet --workspace --all-targets -- -D warnings
	'$(VENV)/bin/python' scripts/check_layers.py
	'$(VENV)/bin/python' -m pytest -q scripts/tests
	'$(VENV)/bin/ruff' check
	'$(VENV)/bin/ruff' format --check
	'$(VENV)/bin/mypy'
	'$(VENV)/bin/stubtest' oxloop --ignore-missing-stub --mypy-config-file pyproject.toml \
		--allowlist scripts/stubtest_allowlist.txt

format: test-venv ## put the sources into the form that `make check` asks for
	@sh scripts/make_venv.sh '$(PYTHON)' '$(VENV)' requirements/check.txt
	$(CARGO) fmt --all
	'$(VENV)/bin/ruff' check --fix --quiet || true
	'$(VENV)/bin/ruff' format

bench: need-python ## against asyncio and uvloop, interleaved (BENCH_ARGS=... for benches/report.py)
	@sh scripts/make_venv.sh '$(PYTHON)' .venv requirements/bench.txt
	@sh scripts/install_wheel.sh .venv release
	.venv/bin/python benches/report.py --json results/bench.json $(BENCH_ARGS)

clean: ## remove the environments, the results and what was built
	rm -rf .venv .venv-[0-9]* .pythons results target dist .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
