# Two commands do all the set-up: `make demo` and `make test`. Only python3 (3.11+) and make are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
AT_ONCE ?= 2
SEEDS ?= 10000
FROM ?= 0
ROUNDS ?= 10
SEED ?= 1
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: install setup demo test check bench guard simulate chaos mutate format docs reference lock clean

install: $(VENV)/.runtime

setup: $(VENV)/.dev

demo: $(VENV)/.runtime
	@$(BIN)/refreshd demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n 3 --dist worksteal

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	PYTHONPATH=clients/python $(BIN)/lint-imports

# Every row next to its ceilings and peers, round after round. LONG=1: with 1,000,000 stored, too.
bench: $(VENV)/.dev
	$(BIN)/python -m bench $(if $(LONG),--long)
	$(BIN)/python -m bench.readme

# Whether a refresh costs the daemon more than is recorded.
guard: $(VENV)/.dev
	$(BIN)/python -m bench.guard

# The fault tests of `make test`, each ROUNDS times and three times as long, with dice of their own.
chaos: $(VENV)/.dev
	CHAOS_ROUNDS=$(ROUNDS) CHAOS_SEED=$(SEED) $(BIN)/python -m pytest -q -x tests/chaos $(if $(ONLY),-k '$(ONLY)')

# Clusters on virtual time that a seed decides, on all cores: how many, from which on. `.venv/bin/python -m tests.simulation
# --seed N` plays one again and prints its history, `--bugs` looks for planted bugs.
simulate: $(VENV)/.dev
	nice -n 10 $(BIN)/python -m tests.simulation --seeds $(SEEDS) --from $(FROM)

# All of domain/ and actors/, or what is named: make mutate ONLY='domain.verdicts*'. It goes on where it was stopped.
mutate: $(VENV)/.dev
	nice -n 10 $(BIN)/mutmut run --max-children $(AT_ONCE) $(if $(ONLY),'$(ONLY)')
	@$(BIN)/python -m bench.mutants $(if $(ONLY),'$(ONLY)')

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The site of docs/, in build/site. What lies outside docs/ is gathered beside it.
docs: $(VENV)/.dev
	rm -rf build && mkdir -p build/docs/project/bench/results
	cp docs/*.md build/docs && sed -i 's|](\.\./|](project/|g' build/docs/*.md
	cp README.md ARCHITECTURE.md SECURITY.md CONTRIBUTING.md CHANGELOG.md build/docs/project
	for one in deploy clients/python clients/schema; do \
		mkdir -p build/docs/project/$$one && cp $$one/README.md build/docs/project/$$one || exit; done
	cp bench/results/*.svg build/docs/project/bench/results
	sed -i 's|](docs/|](../|g' build/docs/project/*.md
	sed -i 's|](../../docs/|](../../../|g' build/docs/project/clients/*/README.md
	$(BIN)/zensical build --strict --clean

# The pages that the code writes: settings and verbs.
reference: $(VENV)/.dev
	$(BIN)/python -m tests.reference

# Writes the lock files anew, for the newest versions that pyproject.toml allows.
lock: $(VENV)/.dev
	CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe \
		--strip-extras --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
		--output-file requirements.lock requirements.in
	CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe \
		--strip-extras --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
		--output-file requirements-dev.lock requirements-dev.in

clean:
	rm -rf $(VENV) build .cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage mutants

# What the daemon and the demo need.
$(VENV)/.runtime: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# What the tests and checks need besides.
$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock
	$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@
