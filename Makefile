# Everything that a fresh machine needs besides Python 3.11 or newer, make and a package index.
#
# Without PYTHON=, the environment is `.venv`, of the first suitable Python on the machine.
# `make test PYTHON=python3.13` has an environment of its own, `.venv-3.13`, so that no version runs in another's.
SUITABLE := import sys; assert sys.version_info >= (3, 11); print("%d.%d" % sys.version_info[:2])
ifeq ($(origin PYTHON), undefined)
PYTHON := $(shell for python in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$python -c '$(SUITABLE)' > /dev/null 2>&1 && echo $$python && break; done)
VENV := .venv
else
VENV := .venv-$(shell $(PYTHON) -c '$(SUITABLE)' 2> /dev/null)
endif
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
INSTALL := $(BIN)/pip install -qq --disable-pip-version-check
QUICK := -m "not slow and not integration"
# what is installed is compiled when it is first used, and Python shall keep that: it is half of the start of Prefect
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-quick test-oldest test-newest check coverage changelog lock bench clean

demo: $(VENV)/installed
	@echo "==> demo: the page of the README on Prefect, and a comparison of classifiers on two backends"
	@$(BIN)/python examples/demo.py
	@echo "==> next: read docs/frontend.md and change examples/demo.py, or run everything that has to pass: make test"

test: check
	@echo "==> tests: all of them, which takes about twenty minutes (two: make test-quick)"
	@$(BIN)/pytest -q -n 2 --dist loadfile
	@echo "==> all passed with $(BIN)/python; next: CONTRIBUTING.md says what a change comes with"

# without CI in the environment, which would make an error of each library and server that is missing
test-quick: $(VENV)/installed
	@echo "==> tests: those that need no server, no cluster and no long time"
	@env -u CI $(BIN)/pytest -q -n 2 --dist loadfile $(QUICK)
	@echo "==> all passed with $(BIN)/python; next, the others as well: make test"

# with the oldest versions that pyproject.toml allows, and the newest that can be resolved, in .venv-oldest and
# .venv-newest; the tests of one backend: make test-oldest TESTS=tests/backends/dask
TESTS := tests/backends tests/serializers
RESOLUTION_oldest := lowest-direct
RESOLUTION_newest := highest
test-oldest test-newest: test-%: .venv-%/installed
	@echo "==> tests with the $* versions: $(TESTS)"
	@env -u CI .venv-$*/bin/pytest -q -n 2 --dist loadfile $(TESTS)
	@echo "==> all passed with the $* versions; they are listed in .venv-$*/versions.txt"

check: $(VENV)/installed
	@echo "==> lint and format"
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --quiet --check
	@echo "==> types (a minute the first time)"
	@$(BIN)/mypy --no-error-summary

# lines and branches, also in the processes that tests start; `make coverage QUICK=` for all tests
coverage: $(VENV)/installed
	@echo "==> coverage: tests, measured"
	@rm -rf build/coverage
	@env -u CI $(BIN)/coverage run -m pytest -q -n 2 --dist loadfile $(QUICK)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report
	@$(BIN)/coverage html --quiet
	@echo "==> next: open build/coverage/html/index.html"

# a draft on the terminal; a release writes it: towncrier build --version VERSION
changelog: $(VENV)/installed
	@$(BIN)/towncrier build --draft --version next

bench: $(VENV)/bench-installed
	@$(BIN)/python benchmarks/run.py --json build/benchmarks.json $(BENCH)

# exact versions and hashes, without any address; `make lock UPGRADE=` keeps the versions that still fit
UPGRADE := --upgrade
lock:
	uv pip compile --all-extras --group dev --universal --python-version 3.11 $(UPGRADE) --quiet \
		--generate-hashes --no-emit-index-url --no-header --no-emit-package functionfuse \
		--output-file requirements.lock pyproject.toml
	uv pip compile --group bench --constraint requirements.lock --universal --python-version 3.11 $(UPGRADE) --quiet \
		--generate-hashes --no-emit-index-url --no-header \
		--output-file requirements-bench.lock

clean:
	rm -rf .venv .venv-* build dist

$(VENV)/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c '$(SUITABLE)' > /dev/null 2>&1 || { \
		echo "FunctionFuse needs Python 3.11 or newer: make PYTHON=/path/to/python3"; exit 1; }
	@echo "==> $(VENV): a virtual environment of $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@echo "==> $(VENV): installing the locked versions (once; one to five minutes)"
	@$(INSTALL) --no-deps --no-compile --require-hashes -r requirements.lock
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

.venv-oldest/installed .venv-newest/installed: .venv-%/installed: pyproject.toml
	@echo "==> .venv-$*: a virtual environment of $$($(PYTHON) --version), with the $* versions"
	@$(PYTHON) -m venv .venv-$*
	@.venv-$*/bin/pip install -qq --disable-pip-version-check uv
	@.venv-$*/bin/uv pip compile --quiet --upgrade --resolution $(RESOLUTION_$*) --no-header --no-emit-index-url \
		--extra all --extra prefect-dask --extra prefect-ray --no-emit-package functionfuse \
		--python .venv-$*/bin/python --output-file .venv-$*/versions.txt pyproject.toml
	@.venv-$*/bin/uv pip install --quiet --python .venv-$*/bin/python \
		--requirements .venv-$*/versions.txt --group dev hypothesis pytest
	@.venv-$*/bin/uv pip install --quiet --python .venv-$*/bin/python --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/bench-installed: $(VENV)/installed requirements-bench.lock
	@echo "==> $(VENV): installing what is measured beside"
	@$(INSTALL) --no-deps --no-compile --require-hashes -r requirements-bench.lock
	@touch $@
