# `make demo` is the start on a new machine with Python 3.11+, git and make.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help install demo test pytest docs study bench torture gpu-check check lock

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 11

install: .venv/installed ## create .venv from the lock file (exact versions with hashes)

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "Python 3.11, 3.12 or 3.13 is needed: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --require-hashes -r requirements.lock
	@# pip compiles on one core; a few files are not meant to be compiled
	@$(BIN)/python -m compileall -qq -j 0 .venv/lib > /dev/null || true
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: install ## train on the CPU for about two minutes, until digits are readable
	@$(BIN)/python -m dcgan.demo

test: check pytest ## make check, then make pytest

pytest: install ## all tests but those that need a GPU, which make gpu-check runs
	CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadscope --no-loadscope-reorder

docs: install ## build the documentation into site/; broken links and anchors are errors
	$(BIN)/python docs/configuration.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

gpu-check: install ## check and measure every GPU path on one GPU (eight minutes)
	$(BIN)/python -m experiments.gpu.check

torture: install ## kill three trainings and a search 20 times each and compare them with uninterrupted ones
	$(BIN)/python -m tests.torture
	$(BIN)/python -m tests.torture --steps 1000 trainer=ddp_cpu
	$(BIN)/python -m tests.torture --pictures trainer=cpu optimizer=adamw scheduler=cosine augmentation=diffaugment
	$(BIN)/python -m tests.torture --search --steps 600 trainer=cpu

study: install ## run or complete a study of experiments/: make study NAME=upsampling (one to two hours)
	$(BIN)/python -m experiments.study $(NAME) $(if $(SEEDS),--seeds $(SEEDS))

bench: install ## measure speed, memory and start-up against a bare loop and a common example (25 minutes)
	$(BIN)/python -m experiments.throughput.measure

check: install ## check format, lint, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

lock: ## update requirements.lock from pyproject.toml (needs uv)
	uv pip compile --generate-hashes --no-emit-index-url --universal --python-version 3.11 --all-extras \
		--no-header --quiet --upgrade pyproject.toml --output-file requirements.lock
