# On a fresh machine with Python 3.11+, git and make: `make demo`.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help install demo test study bench torture check lock

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

install: .venv/installed ## the set-up alone: .venv from the lock of exact versions with hashes

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "Python 3.11, 3.12 or 3.13 is needed: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --require-hashes -r requirements.lock
	@# on all cores, where pip takes one; a few files in there are not meant to be compiled
	@$(BIN)/python -m compileall -qq -j 0 .venv/lib > /dev/null || true
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: install ## train for about two minutes on the CPU and draw readable digits
	@$(BIN)/python -m dcgan.demo

test: check ## format, lint, types, then all the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadscope --no-loadscope-reorder

torture: install ## kill trainings 20 times each, of one process and of two, and compare them with undisturbed ones
	$(BIN)/python -m tests.torture
	$(BIN)/python -m tests.torture --steps 1000 trainer=ddp_cpu

study: install ## run or complete one of experiments/'s studies: make study NAME=upsampling (an hour or two)
	$(BIN)/python -m experiments.study $(NAME) $(if $(SEEDS),--seeds $(SEEDS))

bench: install ## images per second, memory and start-up, side by side with a bare loop and the usual example (25 minutes)
	$(BIN)/python -m experiments.throughput.measure

check: install ## the quick half of the gate: format, lint, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

lock: ## solve requirements.lock again from pyproject.toml (needs uv)
	uv pip compile --generate-hashes --no-emit-index-url --universal --python-version 3.11 --all-extras \
		--no-header --quiet --upgrade pyproject.toml --output-file requirements.lock
