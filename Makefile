# voxmake: recordings -> a voice -> audited programmes. `make help` lists the verbs.
#
# The graph itself is made by scripts/plan.py from CONFIG: explicit rules whose targets carry the
# hash of the run in their names (docs/design.md, section 5).

ifeq ($(filter grouped-target,$(.FEATURES)),)
$(error make $(MAKE_VERSION) is too old: voxmake needs GNU Make 4.3 or newer)
endif

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:
# make -n and make -q may change nothing. Asked before the next line adds words of its own.
DRY := $(if $(findstring n,$(firstword -$(MAKEFLAGS)))$(findstring q,$(firstword -$(MAKEFLAGS))),--no-links)
MAKEFLAGS += --no-builtin-rules --no-print-directory
.DEFAULT_GOAL := help

CONFIG ?= configs/base.yaml
SET ?=
STAGE ?=
TO ?=
ENVS ?= $(or $(VOXMAKE_ENVS),.venv)
PYTHON := $(ENVS)/core/bin/python
READY := $(ENVS)/core/.ready

# Verbs that need the graph of CONFIG; the other ones work without a plan.
STAGES := $(strip $(shell sed -n '/^STAGES = (/,/^)/s/[",()]//gp' scripts/voxmake/run/stage.py | sed "s/STAGES =//; s/#.*//"))
# Short names for the stages that have long ones.
SHORT := prepare:prepare_dataset quality:quality_report validate:whisper_validate units:encode_units motifs:discover_motifs vocoder:train_vocoder vocoder_test:evaluate_vocoder
short_names := $(foreach pair,$(SHORT),$(firstword $(subst :, ,$(pair))))
long_name = $(or $(patsubst $(1):%,%,$(filter $(1):%,$(SHORT))),$(1))
GRAPH_VERBS := all $(STAGES) $(short_names)

config_flags = --config '$(CONFIG)' $(foreach text,$(SET),--set '$(text)')
# Run a script in the environment its engine needs. Other environments than core are set up when one is first asked for.
in_environment = $(if $(filter-out core,$(1)),VOXMAKE_ENVS='$(ENVS)' python3 docker/setup.py --env $(1) --wait && )$(ENVS)/$(1)/bin/python

ifneq ($(filter $(GRAPH_VERBS),$(MAKECMDGOALS)),)
  ifeq ($(wildcard $(READY)),)
    $(error no environment yet: run `make setup` first, or `make demo`)
  endif
  ONLY := $(if $(filter all,$(MAKECMDGOALS)),,$(foreach goal,$(filter $(STAGES) $(short_names),$(MAKECMDGOALS)),--stage $(call long_name,$(goal))))
  PLAN := $(shell $(PYTHON) scripts/plan.py make $(config_flags) $(ONLY) $(DRY))
  ifneq ($(.SHELLSTATUS),0)
    $(error no plan for $(CONFIG): see the line above)
  endif
  include $(PLAN)
endif

$(foreach name,$(short_names),$(eval .PHONY: $(name))$(eval $(name): $(call long_name,$(name))))

.PHONY: help setup demo doctor listen report list-pairs plan status why diff stale verify sweep upload lint test test-all docs bench bench-train bench-diarize docker-build docker-run

help: ## list the verbs
	@echo 'usage: make VERB [CONFIG=configs/x.yaml] [SET="audio.target_db=-23 …"]'; echo
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)$$/  \1\t\2/p' Makefile | expand -t 18
	@echo; echo 'stages, each a verb too:'; echo '  $(STAGES)'; echo 'for short: $(short_names)'

setup: $(READY) ## make the Python environment (.venv/core)

$(READY): docker/setup.py docker/requirements/core.txt
	@python3 docker/setup.py

demo: $(READY) ## set up if needed, then run every stage on the demo corpus
	@$(MAKE) all CONFIG=configs/demo.yaml

doctor: $(READY) ## check the rows and files of CONFIG's sources; copy nothing
	@$(PYTHON) scripts/collect.py $(config_flags) --doctor

listen: $(READY) ## make the page to hear and correct what CONFIG made, in reports/
	@$(PYTHON) scripts/listen.py $(config_flags)

report: $(READY) ## make the page of what CONFIG made: graph, gates, plots, sounds, comparison; in reports/
	@$(PYTHON) scripts/report.py $(config_flags)

list-pairs: $(READY) ## list the pairs of papers and episodes that CONFIG calibrates with
	@$(PYTHON) scripts/calibrate.py list-pairs $(config_flags)

plan: $(READY) ## show the graph of CONFIG: each stage, its run, what it needs
	@$(PYTHON) scripts/plan.py show $(config_flags)

status: $(READY) ## list every run there is, and work that is running or was interrupted
	@$(PYTHON) scripts/runs.py status

why: $(READY) ## why would it run? STAGE=preprocess: what differs from the project's last run
	@$(PYTHON) scripts/plan.py why $(config_flags) $(if $(STAGE),--stage $(STAGE))

diff: $(READY) ## compare two runs: A=<stage>/<hash> B=<stage>/<hash>
	@$(PYTHON) scripts/runs.py diff '$(A)' '$(B)'

stale: $(READY) ## list runs that were made by other source code than today's
	@$(PYTHON) scripts/runs.py stale

verify: $(READY) ## compare every file of every run with its manifest (RUN=<stage>/<hash>: of one)
	@$(PYTHON) scripts/runs.py verify $(if $(RUN),'$(RUN)')

sweep: $(READY) ## delete interrupted work (UNUSED=1: and runs that no project points at; RUN=…: this run)
	@$(PYTHON) scripts/runs.py sweep $(if $(UNUSED),--unused) $(if $(RUN),'$(RUN)')

upload: $(READY) ## copy the run of STAGE=… to TO=… (a folder, s3://…, ssh://…), going on where it stopped
	@$(PYTHON) scripts/upload.py $(config_flags) --stage '$(STAGE)' --to '$(TO)'

lint: $(READY) ## ruff, and check that generated files are up to date
	@$(ENVS)/core/bin/ruff check --no-cache .
	@$(ENVS)/core/bin/ruff format --no-cache --check .
	@$(PYTHON) scripts/docs.py --check

# Packages that the tests of optional engines need.
GROUPS := $(addprefix --group ,pyannote vocoder faster-whisper ray moto)

test: $(READY) ## the tests, without the slow ones
	@python3 docker/setup.py $(GROUPS)
	@$(PYTHON) -m pytest

test-all: $(READY) ## every test
	@python3 docker/setup.py $(GROUPS) --group browser
	@$(PYTHON) -m pytest -m ''

docs: $(READY) ## write configs/base.yaml, configs/schema.json and the reference pages anew
	@$(PYTHON) scripts/docs.py

bench: ## measure speed and memory against the usual way, as ratios (ONLY=segment: one part)
	@python3 docker/setup.py --group bench
	@$(PYTHON) scripts/bench.py $(if $(ONLY),--only $(ONLY))
	@$(if $(ONLY),,$(PYTHON) scripts/bench_train.py)

bench-train: $(READY) ## time and memory of training and speaking against the usual way
	@$(PYTHON) scripts/bench_train.py

bench-diarize: ## how well diarize does on real voices (DATA=folder with digits_fsdd/ and meeting_ami/)
	@python3 docker/setup.py --group bench
	@$(PYTHON) scripts/bench_diarize.py --data '$(DATA)'

IMAGE ?= voxmake
BASE_IMAGE ?=
# A folder of recordings outside the project; the container sees it as /recordings.
RECORDINGS ?= $(CURDIR)/data/demo/recordings
COMMIT := $(shell git rev-parse HEAD 2>/dev/null || echo unknown)

docker-build: ## build the image (BASE_IMAGE=…: on another base)
	docker build $(if $(BASE_IMAGE),--build-arg BASE_IMAGE='$(BASE_IMAGE)') --build-arg COMMIT=$(COMMIT) -t $(IMAGE) .

docker-run: ## run STAGE=all CONFIG=… in the image, with all GPUs (RECORDINGS=…: mounted as /recordings)
	mkdir -p data reports
	docker run --rm --init --gpus all --name $(IMAGE)-$(or $(STAGE),all) --user "$$(id -u):$$(id -g)" \
	  --read-only --tmpfs /tmp --network none --cap-drop ALL --security-opt no-new-privileges --pids-limit 4096 --shm-size 2g \
	  -v '$(CURDIR)/data:/data' -v '$(CURDIR)/reports:/voxmake/reports' -v '$(CURDIR)/configs:/voxmake/configs:ro' \
	  -v '$(RECORDINGS):/recordings:ro' -v voxmake-cache:/cache \
	  $(IMAGE) $(or $(STAGE),all) CONFIG='$(CONFIG)' SET='$(SET)'
