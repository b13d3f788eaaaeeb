# From a fresh clone: `make demo` draws digits, `make test` runs every test. Needs Python 3.11 or newer.
# Everything is installed into .venv in this folder.   make PYTHON=/path/to/python3.12 demo   chooses the Python.

BIN := .venv/bin
READY := .venv/.ready

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

demo: $(READY)  ## train a latent diffusion model and draw digits; options: make demo ARGS="--num 100 --seed 1"
	$(BIN)/minildm demo $(ARGS)

test: $(READY)  ## everything: unit tests, lint, every lesson executed and graded
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

unit: $(READY)  ## the quick tests only
	$(BIN)/python -m pytest -n 2 --dist loadfile tests -m "not slow" $(ARGS)

lab: $(READY)  ## open JupyterLab on the lessons
	$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/lessons $(if $(filter 0,$(shell id -u)),--allow-root) $(ARGS)

student: $(READY)  ## the lessons without solutions, and an nbgrader course, into build/
	$(BIN)/python lessons/student.py

site: $(READY)  ## the course as a web site, from the notebooks as committed, into build/site/html
	$(BIN)/python -m docs.site.build

slides: $(READY)  ## slides from the lessons' figures, into build/slides
	$(BIN)/python lessons/slides.py

lint: $(READY)  ## ruff over package, tests and lessons
	$(BIN)/ruff check

lock: $(READY)  ## write constraints.txt anew: the newest versions that pyproject.toml allows
	$(BIN)/uv pip compile --universal --no-header --no-annotate --all-extras --upgrade \
	    pyproject.toml -o constraints.txt

clean:  ## remove what set-up and tests made; data and runs stay
	rm -rf .venv .uv-boot build *.egg-info .pytest_cache .ruff_cache

$(READY): setup.sh pyproject.toml constraints.txt
	@PYTHON="$(PYTHON)" ./setup.sh

ifneq ($(CURDIR),$(shell cat $(READY) 2>/dev/null))   # the folder was moved, and the scripts in .venv with it
$(READY): new-place
endif

.PHONY: help demo test unit lab student site slides lint lock clean new-place
