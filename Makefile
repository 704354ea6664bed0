# Everything that a fresh machine with Python 3.11 and make needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALL := $(BIN)/pip install -qq --disable-pip-version-check
# what is installed is compiled when it is first used, and Python shall keep that: it is half of the start of Prefect
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check lock bench clean

demo: .venv/installed
	@$(BIN)/python examples/demo.py

test: .venv/installed check
	@$(BIN)/pytest -q -n 2 --dist loadfile

check: .venv/installed
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --quiet --check
	@$(BIN)/mypy --no-error-summary

bench: .venv/bench-installed
	@$(BIN)/python benchmarks/run.py --json build/benchmarks.json $(BENCH)

# exact versions and hashes, without any address
lock:
	uv pip compile --all-extras --group dev --universal --python-version 3.11 --upgrade --quiet \
		--generate-hashes --no-emit-index-url --no-header --no-emit-package functionfuse \
		--output-file requirements.lock pyproject.toml
	uv pip compile --group bench --constraint requirements.lock --universal --python-version 3.11 --upgrade --quiet \
		--generate-hashes --no-emit-index-url --no-header \
		--output-file requirements-bench.lock

clean:
	rm -rf .venv build dist

.venv/installed: requirements.lock pyproject.toml
	@echo "making .venv with the locked versions"
	@$(PYTHON) -m venv .venv
	@$(INSTALL) --no-deps --no-compile --require-hashes -r requirements.lock
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

.venv/bench-installed: .venv/installed requirements-bench.lock
	@$(INSTALL) --no-deps --no-compile --require-hashes -r requirements-bench.lock
	@touch $@
