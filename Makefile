# Every target sets up .venv first; a second time that takes a few milliseconds (see .ci/setup).

PYTHON ?= python3
EXTRA ?=
ARGS ?=
STATUS_FILE ?=
BIN := .venv/bin
# Tests without an engine side by side, then those with one (tests/conftest.py).
PYTEST := $(BIN)/pytest --numprocesses logical --maxprocesses 4 --dist loadgroup --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo setup test test-gpu test-versions check format screenshots overhead loadgen agreement verdicts tuner simulation audit loop watchers faults soak wheel clean distclean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  PYTHON=python3.12   the interpreter to set up with (3.11 or newer)"
	@echo "  EXTRA=cpu|cuda      which vLLM to install; found out by itself otherwise"
	@echo "  ARGS=\"...\"          arguments for tputtui (demo), pytest (test), or the script that runs"

demo: setup ## set up what is missing and start tputtui
	@exec $(BIN)/tputtui $(ARGS)

setup: ## make .venv ready: uv, vLLM for this machine, tputtui
	@PYTHON='$(PYTHON)' EXTRA='$(EXTRA)' bash .ci/setup

# STATUS_FILE, for .ci/run: a failure of pytest is written there and is no failure of make.
test: setup ## run the tests
	@$(PYTEST) $(ARGS) $(if $(STATUS_FILE),|| echo $$? >'$(STATUS_FILE)')

test-gpu: setup ## what only a GPU shows: limits under CUDA graphs, memory that comes back, NVML (10 min)
	@$(BIN)/pytest tests/gpu $(ARGS)

test-versions: setup ## run the adapter against other releases of vLLM (ARGS="0.26 0.33")
	@$(BIN)/python tests/versions/run.py $(ARGS)

check: setup ## lint, formatting, types, import contracts and tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) $(ARGS)

format: setup ## format the code and apply safe lint fixes
	$(BIN)/ruff check --fix --exit-zero
	$(BIN)/ruff format

screenshots: setup ## draw the pictures of the README again
	@$(BIN)/python screenshots/make.py $(ARGS)

overhead: setup ## measure what watching costs the engine
	@$(BIN)/python benchmarks/overhead.py $(ARGS)

loadgen: setup ## measure what a generated request costs, and how late it is sent
	@$(BIN)/python benchmarks/loadgen.py $(ARGS)

agreement: setup ## compare our figures with vLLM's own benchmarks on the same work
	@$(BIN)/python benchmarks/agreement.py $(ARGS)

verdicts: setup ## count false and missed verdicts on an engine whose truth is known
	@$(BIN)/python benchmarks/verdicts.py $(ARGS)

tuner: setup ## how soon the tuner finds a good setting, and how good (an hour)
	@$(BIN)/python benchmarks/tuner.py $(ARGS)

audit: setup ## look the pinned dependencies up in the advisory database (needs its network)
	@$(BIN)/uv tool run pip-audit --requirement constraints.txt --no-deps --disable-pip $(ARGS)

simulation: setup ## how well simulations predict: calibrated here, and from datasheets
	@$(BIN)/python benchmarks/simulation.py $(ARGS)

loop: setup ## measure what our loop adds to an engine's step
	@$(BIN)/python benchmarks/loop.py $(ARGS)

watchers: setup ## what watching costs, ours beside other dashboards
	@$(BIN)/python benchmarks/watchers.py $(ARGS)

faults: setup ## anything in any order, 100,000 requests at once, 10,000 hostile profiles (15 min)
	@FAULT_SEQUENCES=1000 $(BIN)/pytest tests/faults/test_random.py tests/faults/test_storms.py \
		tests/engine/test_reboot.py \
		tests/test_profile_files.py --timeout 9000 $(ARGS)

soak: setup ## half an hour on the real engine, then ten million steps of the recorder
	@$(BIN)/python benchmarks/soak.py $(ARGS)

wheel: setup ## build the sdist and the wheel into dist/
	@$(BIN)/python -m build --no-isolation --outdir dist

clean: ## remove built files and caches, not .venv
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache snapshot_report.html
	find . \( -name .venv -o -name .versions \) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove .venv as well
	rm -rf .venv .versions
