# Chores. Each sets up what it needs in .venv; only Python 3.10 or newer and a package index are required.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VENV4 := .venv-transformers-4
VENV_OPTIMUM := .venv-optimum
PORT ?= 3000
VIRTUAL_HPU_RELEASE ?= 1.19

.PHONY: help setup demo serve virtual-hpu test test-long test-transformers-4 test-optimum test-hpu verify-optimum check format protos docs bench-serving verify-faults fuzz faults soak clean

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

# The stand-in for torchvision goes on the path of every process, as the real one is in the vendor's images.
$(VENV_OPTIMUM)/.done: setup.cfg pyproject.toml requirements-torch.txt
	$(PYTHON) -m venv $(VENV_OPTIMUM)
	$(VENV_OPTIMUM)/bin/pip install --quiet --disable-pip-version-check -r requirements-torch.txt
	$(VENV_OPTIMUM)/bin/pip install --quiet --disable-pip-version-check -r requirements-torch.txt -e '.[dev,hpu-optimum]'
	echo $(CURDIR)/tests/plugins/hpu_optimum/stand_ins \
		> "$$($(VENV_OPTIMUM)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/stand_ins.pth"
	@touch $@

demo: setup  ## Serve the bundled model and ask it about a picture.
	@PATH="$(CURDIR)/$(BIN):$$PATH" PORT=$(PORT) sh tools/demo.sh

serve: setup  ## Serve the bundled model on http://127.0.0.1:3000 until Ctrl-C.
	$(BIN)/runtime serve --model-id demo --hostname 127.0.0.1 --port $(PORT) --grpc-port 3001

# Two folders that are on the path of no other command: the emulation, and what pip would know of the vendor's package.
virtual-hpu: setup  ## Serve the bundled model on an emulated Gaudi until Ctrl-C; slow.
	PYTHONPATH="tests/virtual_hpu:tests/virtual_hpu/releases/$(VIRTUAL_HPU_RELEASE)" \
		VIRTUAL_HPU_RELEASE=$(VIRTUAL_HPU_RELEASE) $(BIN)/runtime serve --backend hpu --model-id demo \
		--max-total-tokens 1024 --max-batch-size 2 --pad-sequence-to-multiple-of 512 --no-prefix-reuse \
		--hostname 127.0.0.1 --port $(PORT)

test: setup  ## Run the tests, two files at a time.
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-long: setup  ## Run the tests marked long, which `make test` leaves out, but for those of faults.
	$(BIN)/python -m pytest -n 2 --dist loadfile -m long --ignore tests/faults

test-transformers-4: $(VENV4)/.done  ## Run what depends on transformers with version 4.55.
	$(VENV4)/bin/python -m pytest -n 2 --dist loadfile tests/core/prompt tests/core/model tests/plugins/cpu_reference \
		tests/plugins/torch tests/core/verify tests/end_to_end/test_demo_model.py tests/clients/test_text_generation.py

test-optimum: $(VENV_OPTIMUM)/.done  ## Run the tests of hpu_optimum with optimum-habana.
	PATH="$(CURDIR)/$(VENV_OPTIMUM)/bin:$$PATH" $(VENV_OPTIMUM)/bin/python -m pytest tests/plugins/hpu_optimum

test-hpu: setup  ## Test the backend hpu on the virtual device with 2000 requests in each mode, and every release of it.
	HPU_REQUESTS=2000 $(BIN)/python -m pytest tests/plugins/hpu -m "not soak"

# Verify exits with 1 when it finds a divergence, which is what is expected of it here.
verify-optimum: $(VENV_OPTIMUM)/.done  ## Let `runtime verify` find what is wrong in optimum-habana.
	PYTHONPATH="tests/virtual_hpu:tests/virtual_hpu/releases/1.23" VIRTUAL_HPU_RELEASE=1.23 PT_HPU_LAZY_MODE=1 \
		$(VENV_OPTIMUM)/bin/runtime verify --backend hpu_optimum --model-id demo --dtype float32; test $$? -eq 1

check: setup  ## Lint, check format and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup  ## Format the code.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

protos: setup  ## Generate core/runtime/v1 and v3 from protos/.
	$(BIN)/python tools/protos.py

docs: setup  ## Generate the tables of docs/, and docs/hooks.md.
	$(BIN)/python tools/docs.py
	$(BIN)/python tools/hooks.py

bench-serving: setup  ## Measure the server against this machine's limits; some minutes, on an idle machine.
	$(BIN)/python -m benchmarks.serving

verify-faults: setup  ## Try `runtime verify` on broken and on right backends; writes docs/verify.md.
	PYTHONPATH=tests $(BIN)/python -m support.verify_faults

fuzz: setup  ## Make up 20,000 inputs for each reader of what clients and hosts send; some ten minutes.
	$(BIN)/python -m pytest tests/fuzz --hypothesis-profile long --timeout 0

faults: setup  ## Hurt a running server in every way, the worker killed 20 times under 16 streams included; some ten minutes.
	$(BIN)/python -m pytest tests/faults -m "not soak" -s

soak: setup  ## Mixed load with random faults for 30 minutes, or SOAK_MINUTES.
	$(BIN)/python -m pytest tests/faults -m soak -s

clean:  ## Remove environments and caches.
	rm -rf $(VENV) $(VENV4) $(VENV_OPTIMUM) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
