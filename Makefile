# Two commands for a user: `make demo` and `make test`. Both set up what is missing first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test quick ffmpeg test-slow test-slurm test-oldest mutants mutants-sample docs package clean
.DEFAULT_GOAL := demo

# The stamp is written last: an interrupted installation is done again.
.venv/installed: setup.py pyproject.toml
	@echo "installing into .venv: some 6 GB, two minutes where the packages are near"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[demo,dev,hf,pytorchvideo]'
	touch $@

demo: .venv/installed
	$(BIN)/python tools/demo.py

# The frame tests compare with the ffmpeg command line; without it they are skipped, and say so.
ffmpeg:
	@command -v ffmpeg > /dev/null || { echo "installing ffmpeg, a Debian package, for the frame tests"; \
	  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends ffmpeg; } \
	  || echo "ffmpeg could not be installed: the tests that need it will be skipped"

test: .venv/installed ffmpeg
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadscope -m 'not slow and not slurm'
	@echo "the cluster tests are run by: make test-slurm; the long proofs by: make test-slow"

# For the loop while editing: the parts without videos and processes.
QUICK := tests/model tests/config tests/data/test_frame_sampling.py tests/data/test_list_forms.py tests/test_architecture.py \
  $(addprefix tests/diffusion/test_,draw.py objective.py process.py sampler.py schedule.py) \
  $(addprefix tests/engine/train/test_,lr_schedule.py optimizer.py)
quick: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -n 2 -q $(QUICK)

test-slow: .venv/installed
	$(BIN)/python -m pytest -m slow

test-slurm: .venv/installed
	bash tests/slurm/run.sh

.venv-oldest/installed: requirements/oldest.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --disable-pip-version-check -r requirements/oldest.txt
	touch $@

test-oldest: .venv-oldest/installed ffmpeg
	PYTHONPATH=. .venv-oldest/bin/python -m pytest -n 2 --dist loadscope -m 'not slow and not slurm'

.venv-docs/installed: requirements/docs.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --disable-pip-version-check -r requirements/docs.txt
	touch $@

docs: .venv-docs/installed
	.venv-docs/bin/mkdocs build --strict

package: .venv-docs/installed
	.venv-docs/bin/python -m build --outdir dist .

# Faults planted in copies of the tree (tests/mutants/*.py), each of which a test must notice. Another sample a commit.
MUTANTS ?= 40
mutants: .venv/installed
	$(BIN)/python -m tests.mutants.run

mutants-sample: .venv/installed
	$(BIN)/python -m tests.mutants.run --sample $(MUTANTS) --seed "$$(git rev-parse HEAD)"

clean:
	rm -rf .venv .venv-oldest .venv-docs build dist site runs datasets/motion *.egg-info
