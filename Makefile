# Everything a newcomer types. `make run` and `make test` install what they need into .venv first.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

SHIM := $(if $(filter Linux,$(shell uname)),build/disk.so)

.PHONY: install run test test-fast coverage check soak chaos attack bench bench-io bench-callers bench-watched bench-keep bench-lambda screenshots plans lock api-tools aws-tools checkov guard typescript tools clean

install: .venv/dev.stamp ## the tests' and tools' dependencies too

run: .venv/run.stamp ## serve on http://127.0.0.1:8080
	$(BIN)/decoupled serve $(ARGS)

# Byte code first, also where Python is told to write none: else each of the thousands of servers compiles all of it anew.
# A file's tests stay in one process, which makes its servers and stacks once; the longest files begin first.
test: tools
	$(BIN)/python -m compileall -q decoupled functions benchmarks tests/support
	$(BIN)/pytest -n 5 --dist loadfile --no-loadscope-reorder $(ARGS)

test-fast: install ## under a minute: no server, no emulator, no AWS tools
	$(BIN)/pytest tests/unit tests/contract -k "not ministack" $(ARGS)

# Without the tests that fill the disk: what is measured could not be written either.
coverage: install api-tools typescript $(SHIM) ## which lines and branches the tests of units, engines and the server reach
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest tests/unit tests/contract tests/server \
		-k "not ministack and not without_space and not disk_is_full" $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/shellcheck scripts/*.sh .ci/run

soak: install ## the random tests for longer: HISTORIES of the simulation, and what is marked soak
	DECOUPLED_HISTORIES=$(or $(HISTORIES),200000) $(BIN)/pytest -m '' tests/simulation/test_simulation.py \
		tests/simulation/test_order.py tests/server/test_order.py $(ARGS)
	DECOUPLED_FORGED=100000 $(BIN)/pytest tests/unit -k test_of_many_forged $(ARGS)

chaos: install $(SHIM) ## disks that fail, power cuts, crashes: ten minutes of them, or ARGS='--minutes 60'; Linux only
	$(BIN)/python -m tests.support.chaos $(ARGS)

attack: install ## clients that want the server for themselves, beside an honest one; ARGS='--only slow_heads --seconds 60'
	$(BIN)/python -m benchmarks.attack $(ARGS)

bench: install ## BASE=commit: beside that commit, in one run
	$(BIN)/python -m $(if $(BASE),benchmarks.compare $(BASE),benchmarks.bench) $(ARGS)

bench-io: install ## whether a slow, sick or busy neighbour stops the others; six minutes, or ARGS='--only slow --seconds 5'
	$(BIN)/python -m benchmarks.io $(ARGS)

bench-callers: install ## what keys, waiting for a record and listening to events cost; or ARGS='--only wait --seconds 3'
	$(BIN)/python -m benchmarks.callers $(ARGS)

bench-watched: install ## what metrics, an open page and scrapes cost; or ARGS='--only page --seconds 3'
	$(BIN)/python -m benchmarks.watched $(ARGS)

bench-keep: install ## what years of data cost; 50 million messages, 32 GB, or ARGS='--only year --quick'
	$(BIN)/python -m benchmarks.keep $(ARGS)

bench-lambda: install ## what the Lambda functions cost, beside the usual way
	$(BIN)/python -m benchmarks.lambda_bench

screenshots: install ## of the page, idle, under a spike and in an outage: build/screenshots, docs/page.png; needs Chromium
	$(BIN)/python -m tests.support.screenshots

plans: install ## what docs/scale.md shows: the texts and plots of its plans
	$(BIN)/python -m tests.support.plans

lock: install ## resolve the dependencies of pyproject.toml anew, for every supported Python
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --upgrade \
		--extra aws --group install --output-file requirements/run.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --upgrade \
		--extra aws --extra otel --extra plan --extra replica --group install --group dev --output-file requirements/dev.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --upgrade --python-version 3.11 \
		--group lambda --output-file requirements/lambda.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --upgrade --python-version 3.11 \
		--constraint requirements/lambda.lock --group lambda-traces --output-file requirements/lambda-traces.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --upgrade --python-version 3.11 \
		--group aws-tools --output-file requirements/aws-tools.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --upgrade --python-version 3.11 \
		--group api-tools --output-file requirements/api-tools.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --upgrade --python-version 3.11 \
		--group checkov --output-file requirements/checkov.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --upgrade --python-version 3.11 \
		--group ziglang --output-file requirements/ziglang.lock

api-tools: .venv-api-tools/stamp ## what tests the OpenAPI document, and makes clients of it; apart, as the next

aws-tools: .venv-aws-tools/stamp ## the AWS CLI, and MiniStack for the tests; apart, because they pin what we use

checkov: .venv-checkov/stamp

tools: install api-tools aws-tools checkov guard typescript build/wheels/stamp build/rewritten.stamp $(SHIM) ## all that `make test` installs; `make -j4 tools`: at once

typescript: $(if $(shell command -v npm),build/typescript/stamp) ## for the test of a generated client; without npm, that is skipped

guard: $(if $(shell command -v npm),build/guard/stamp) ## AWS CloudFormation Guard, and rules for it; the same

build/disk.so: tests/support/chaos/disk.c .venv-ziglang/stamp
	@mkdir -p build
	.venv-ziglang/bin/python -m ziglang cc -shared -fPIC -O2 -Wall -Wextra -Werror -o $@ $<

build/typescript/stamp: tests/support/typescript/package.json tests/support/typescript/package-lock.json
	@mkdir -p build/typescript
	cp $^ build/typescript
	cd build/typescript && npm ci --ignore-scripts --no-audit --no-fund --silent
	@touch $@

# Without its peers: it is a plug-in of the CDK, of which only the program and the rules that it carries are of use here.
build/guard/stamp: tests/support/guard/package.json tests/support/guard/package-lock.json
	@mkdir -p build/guard
	cp $^ build/guard
	cd build/guard && npm ci --ignore-scripts --legacy-peer-deps --no-audit --no-fund --silent
	@touch $@

build/wheels/stamp: requirements/lambda.lock requirements/lambda-traces.lock tests/support/wheels.py | install
	rm -rf build/wheels
	$(BIN)/python -m tests.support.wheels
	@touch $@

# pytest rewrites the assertions of all tests and keeps that beside them, also where Python is told to write no byte code:
# else each process of `make test` does it anew, which is a third of a minute of CPU. Once: a test that is changed later is
# rewritten where it runs.
build/rewritten.stamp: | install
	@mkdir -p build
	PYTHONDONTWRITEBYTECODE= $(BIN)/pytest --collect-only --quiet --quiet > build/collected.txt || (cat build/collected.txt; exit 1)
	@touch $@

clean:
	rm -rf .venv .venv-* build

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "decoupled needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv .venv

.venv/run.stamp: requirements/run.lock pyproject.toml | .venv/bin/python
	$(PIP) install --require-hashes -r requirements/run.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev.stamp: requirements/dev.lock pyproject.toml | .venv/bin/python
	$(PIP) install --require-hashes -r requirements/dev.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@ .venv/run.stamp

.venv-%/stamp: requirements/%.lock | .venv/bin/python
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/$*.lock
	@touch $@
