# Chores. Each sets up what it needs in .venv; only Python 3.10 or newer and a package index are required.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VENV4 := .venv-transformers-4
PORT ?= 3000

.PHONY: help setup demo serve test test-transformers-4 check format protos docs bench-serving clean

help:  ## Show this list.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.done  ## Make the development environment in .venv.

# torch first and by version, so that no other requirement chooses a build with several gigabytes of GPU libraries.
$(VENV)/.done: setup.cfg pyproject.toml requirements-torch.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-torch.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

$(VENV4)/.done: setup.cfg pyproject.toml requirements-torch.txt
	$(PYTHON) -m venv $(VENV4)
	$(VENV4)/bin/pip install --quiet --disable-pip-version-check -r requirements-torch.txt
	$(VENV4)/bin/pip install --quiet --disable-pip-version-check -e '.[dev]' 'transformers==4.55.4' \
		'text-generation==0.7.0'
	@touch $@

demo: setup  ## Serve the bundled model and ask it about a picture.
	@PATH="$(CURDIR)/$(BIN):$$PATH" PORT=$(PORT) sh tools/demo.sh

serve: setup  ## Serve the bundled model on http://127.0.0.1:3000 until Ctrl-C.
	$(BIN)/runtime serve --model-id demo --hostname 127.0.0.1 --port $(PORT) --grpc-port 3001

test: setup  ## Run the tests.
	$(BIN)/python -m pytest

test-transformers-4: $(VENV4)/.done  ## Run what depends on transformers with version 4.55.
	$(VENV4)/bin/python -m pytest tests/core/prompt tests/core/model \
		tests/plugins tests/end_to_end/test_demo_model.py tests/clients/test_text_generation.py

check: setup  ## Lint, check format and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup  ## Format the code.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

protos: setup  ## Generate core/runtime/v1 and v3 from protos/.
	$(BIN)/python tools/protos.py

docs: setup  ## Generate the tables of docs/.
	$(BIN)/python tools/docs.py

bench-serving: setup  ## Measure the server against this machine's limits; some minutes, on an idle machine.
	$(BIN)/python -m benchmarks.serving

clean:  ## Remove environments and caches.
	rm -rf $(VENV) $(VENV4) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
