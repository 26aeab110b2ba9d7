# `make forez-map` and `make test` are all a newcomer needs.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
DOCS_STAMP := .venv/.docs-installed

.PHONY: help setup lint test docs qgis-plugin test-qgis kit forez-map forez-live map results bench gpu-check crash-recovery faults fuzz label-check label-omission noisy-labels reproduce-retrieval reproduce-maggiori reproduce-gid ask-gid reproduce-real ask-real flips-real starter-model reproduce-chips sample-tiles clean

help: ## show this
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: $(STAMP) ## create .venv and install the pinned lock

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

# $(call timed,COMMAND): run it, and print the seconds it took.
timed = @echo "$(1)"; start=$$(date +%s); $(1) && echo "[$$(($$(date +%s) - start)) s] $(1)"

lint: setup ## ruff, mypy, import-linter
	$(call timed,$(BIN)/ruff check .)
	$(call timed,$(BIN)/ruff format --check .)
	$(call timed,$(BIN)/mypy)
	$(call timed,$(BIN)/lint-imports)

test: setup ## the test suite, without network (in QGIS: make test-qgis)
	$(call timed,$(BIN)/python -m pytest -n auto --dist worksteal --durations=15 -m "not qgis")

docs: $(DOCS_STAMP) ## build the documentation site in outputs/docs; a broken link is an error
	$(call timed,$(BIN)/sphinx-build -q -E -W --keep-going -c docs . outputs/docs)
	@echo "outputs/docs/index.html"

$(DOCS_STAMP): $(STAMP) requirements-docs.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement requirements-docs.lock
	@touch $@

qgis-plugin: ## build the plugin for QGIS, dist/geopipe_provider.zip
	$(PYTHON) qgis/make_zip.py

test-qgis: setup ## results and the plugin in a real QGIS (Debian packages qgis python3-qgis)
	$(BIN)/python -m pytest -m qgis tests/qgis -rs

# make kit [PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"]
kit: setup qgis-plugin ## dist/kit: wheels, lock, docs and QGIS plugin, to install on a machine without internet
	rm -rf dist/kit && mkdir -p dist/kit
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check $(PIP_ARGS) --wheel-dir dist/kit/wheels --constraint requirements.lock ".[onnx]"
	rm -rf build
	cp -R README.md LICENSE requirements.lock docs sample_tiles workflows dist/geopipe_provider.zip dist/kit
	cp docs/install.md dist/kit/INSTALL.md
	@du -sh dist/kit

forez-map: setup ## the whole workflow on the simulated scene
	$(BIN)/geopipe run workflows/forez.toml

# The real Forez around Montbrison; needs the internet. Of the yearly Pleiades images the last one:
# make forez-live FOREZ_LAYER='ORTHOIMAGERY.ORTHO-SAT.PLEIADES.*'
FOREZ := outputs/forez-live
FOREZ_LAYER ?= ORTHOIMAGERY.ORTHOPHOTOS
FOREZ_BOUNDS ?= 4.045 45.590 4.095 45.620

forez-live: setup ## the same with IGN's ortho-photo, OpenStreetMap and BD TOPO; needs the internet
	@mkdir -p $(FOREZ)
	@test -f $(FOREZ)/scene.tif || $(BIN)/geopipe scene wmts https://data.geopf.fr/wmts '$(FOREZ_LAYER)' --bounds $(FOREZ_BOUNDS) --gsd 0.5 -o $(FOREZ)/scene.tif
	@test -f $(FOREZ)/bdtopo.gpkg || $(BIN)/geopipe labels wfs $(FOREZ)/scene.tif https://data.geopf.fr/wfs/ows BDTOPO_V3:batiment --class building --credit 'IGN, BD TOPO, Licence Ouverte 2.0' -o $(FOREZ)/bdtopo.gpkg
	$(BIN)/geopipe run workflows/forez-live.toml

# make map SCENE=my.tif [OSM=my.gpkg] [ENHANCE=tile.tif TRUTH=tile.gpkg] [OUT=folder] [ARGS="--set ..."]
map: setup ## the same workflow on SCENE=my.tif [OSM=my.gpkg] [ENHANCE=tile.tif TRUTH=tile.gpkg]
	@test -n "$(SCENE)" || { echo "usage: make map SCENE=my.tif [OSM=my.gpkg] [ENHANCE=tile.tif TRUTH=tile.gpkg] [OUT=folder]"; exit 2; }
	@test -z "$(ENHANCE)" || test -n "$(TRUTH)" || { echo "ENHANCE needs TRUTH, its accurate outlines"; exit 2; }
	$(BIN)/geopipe run workflows/new-scene.toml \
	  --set name="$$(basename "$(SCENE)")" \
	  --set train.scene="$(SCENE)" --set map.scenes="$(SCENE)" \
	  --set train.labels="$(or $(OSM),fetch)" \
	  --set out="$(or $(OUT),outputs/$$(basename "$(basename $(SCENE))"))" \
	  $(if $(ENHANCE),--set enhance.scene="$(ENHANCE)" --set enhance.labels="$(TRUTH)") $(ARGS)

results: setup ## the figures of docs/results, three seeds each (an hour)
	$(BIN)/python -m benchmarks.seeds workflows/forez.toml docs/results/forez

bench: setup ## speed and memory against other ways; writes docs/results/bench/ (two hours)
	$(BIN)/python -m benchmarks.run --light-from 20000 --part 2048
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.stages
	$(BIN)/python -m benchmarks.retrieval
	$(BIN)/python -m benchmarks.patches
	$(BIN)/python -m benchmarks.chips
	$(BIN)/python -m benchmarks.vectors

gpu-check: setup ## agreement, speed and trainings on a GPU; writes docs/results/gpu/ (8 minutes)
	$(BIN)/python -m benchmarks.gpu $(ARGS)

crash-recovery: setup ## kill a mapping 32 times and compare its bytes; writes docs/results/bench/kill.md
	$(BIN)/python -m benchmarks.crash_recovery

faults: setup ## 1,000 system calls that fail, signals, full disks; writes docs/results/faults.md (half an hour; needs a C compiler)
	$(BIN)/python -m benchmarks.faults --faults 1100 --jobs 2 --out docs/results

fuzz: setup ## read changed files of every format; writes docs/results/fuzz.md (20 minutes, or ARGS="--minutes 60")
	$(BIN)/python -m benchmarks.fuzz $(ARGS)

label-check: setup ## what the check says of known and real shifts; writes docs/results/label-check.md
	$(BIN)/python -m reproduce.label_check

label-omission: setup ## whether the check sees houses that were removed; writes docs/results/label-omission.md
	$(BIN)/python -m reproduce.label_omission

noisy-labels: setup ## ways to learn from noisy labels, three seeds; writes docs/results/noisy-labels.md (hours)
	$(BIN)/python -m reproduce.noisy_labels

reproduce-retrieval: setup ## chip retrieval with pretrained CNNs; writes docs/results/retrieval/ (an hour)
	$(BIN)/python -m reproduce.retrieval.run

reproduce-maggiori: setup ## the paper's experiments; writes docs/results/maggiori/ (hours)
	$(BIN)/python -m reproduce.maggiori.run

reproduce-gid: setup ## land cover by patches, transfer without labels; needs GEOPIPE_DATA, DINOV2=FILE; writes docs/results/gid/ (hours)
	$(BIN)/python -m reproduce.gid.run
	$(BIN)/python -m reproduce.gid.frozen --dinov2 $(or $(DINOV2),auto)
	$(BIN)/python -m reproduce.gid.tuned

ask-gid: setup ## questions about a target: 1,000 audits, accuracy by answers; needs GEOPIPE_DATA; writes docs/results/gid/ask.md (20 minutes)
	$(BIN)/python -m reproduce.gid.ask

reproduce-real: setup ## maps of real places by several methods; needs GEOPIPE_DATA; writes docs/results/real/ (hours)
	$(BIN)/python -m reproduce.real.run $(ARGS)

flips-real: setup ## maps averaged over flips, of what reproduce-real has trained; needs GEOPIPE_DATA; writes docs/results/real/flips.md (20 minutes)
	$(BIN)/python -m reproduce.real.flips $(ARGS)

ask-real: setup ## where to draw: ranked against random windows; needs GEOPIPE_DATA; writes docs/results/real/ask.md (hours)
	$(BIN)/python -m reproduce.real.ask $(ARGS)

starter-model: setup ## train the starter model, and measure it where it was not trained; needs GEOPIPE_DATA (an hour)
	$(BIN)/python -m reproduce.starter.run $(ARGS)

reproduce-chips: setup ## scene classification: fusion, attention maps; needs GEOPIPE_DATA; writes docs/results/chips/ (hours)
	$(BIN)/python -m reproduce.chips.run $(ARGS)

sample-tiles: setup ## make sample_tiles/ anew from its generator
	$(BIN)/python sample_tiles/make.py

clean: ## remove .venv, caches and outputs
	rm -rf .venv outputs dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
