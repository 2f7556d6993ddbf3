# make demo   set up and watch two fine-tunes get their verdicts
# make test   set up and run lint, types and all tests
DEVICE ?= cpu
# What the demo judges by; "default" is the policy of a release, with the full battery.
POLICY ?= demo
PY := .venv/bin/python
STAMP := .venv/.installed-$(DEVICE)
HELM := .venv/bin/helm
PROMETHEUS := .venv/prometheus/.installed
export HF_HUB_OFFLINE := 1
export HF_HUB_DISABLE_PROGRESS_BARS := 1

.PHONY: help demo env test lint types unit integration e2e e2e-full format organisms judge bench-statistics bench-service docs-tables lock clean chart prometheus dashboards pictures

help:            ## list the targets
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 20

demo: env        ## two real fine-tunes through the real service: one passes, one fails
	@GATE_DEVICE=$(DEVICE) $(PY) deploy/demo.py --policy $(POLICY)

env: $(STAMP)    ## make .venv from the lock file of DEVICE (cpu or cuda)

$(STAMP): requirements/$(DEVICE).lock requirements/models.lock pyproject.toml deploy/install.sh
	@deploy/install.sh $(DEVICE)
	@touch $(STAMP)

prometheus: $(PROMETHEUS)  ## Prometheus and Alertmanager for the tests, into .venv/prometheus

$(PROMETHEUS): deploy/install-prometheus.sh | $(STAMP)
	@deploy/install-prometheus.sh $(@D)
	@touch $@

test: env lint types unit integration e2e  ## everything that decides whether a change is good

lint: env        ## ruff and import rules
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@.venv/bin/lint-imports

types: env       ## mypy, strict
	@$(PY) -m mypy

unit: env        ## no process is started; seconds
	@$(PY) -m pytest tests/unit -n 2 --dist loadfile

integration: env prometheus $(HELM)  ## real broker, database, HTTP and Celery; a fake engine; Prometheus, helm
	@$(PY) -m pytest tests/integration -n 3 --dist loadfile --durations 15

e2e: env         ## real vLLM, real fine-tunes
	@$(PY) -m pytest tests/e2e -m "not slow" --durations 15

e2e-full: env    ## the same, with the runs that make test leaves out
	@$(PY) -m pytest tests/e2e

chart: env $(HELM)  ## lint and render the Helm chart, and write what it repeats of the code
	@$(PY) deploy/helm/generate.py
	@$(PY) -m pytest tests/unit/test_chart_values.py tests/integration/chart

$(HELM): $(STAMP) requirements/chart.lock deploy/install-helm.sh
	@deploy/install-helm.sh

format: env      ## put the code into shape
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

organisms: env   ## train the four model organisms again and measure them (about half an hour)
	@deploy/organisms.sh

judge: env       ## train the embedded judge again and measure it
	@$(PY) -m gate base --out .gate/base/SmolLM2-135M-Instruct
	@$(PY) -m workers.judges.train --base .gate/base/SmolLM2-135M-Instruct --out workers/judges/embedded
	@$(PY) -m workers.judges.measure --base .gate/base/SmolLM2-135M-Instruct

bench-statistics: env  ## wrong verdicts and answers over thousands of simulated submissions
	@$(PY) tests/bench/submissions.py

bench-service: env  ## 500 submissions under random kills, and submissions per second (minutes)
	@$(PY) tests/bench/service.py

dashboards: env  ## write the Grafana dashboards and the tables of docs/grafana.md again
	@$(PY) -m deploy.grafana.boards --page docs/grafana.md

pictures:        ## draw the reports that README and docs show, with Chromium; after make demo
	@deploy/pictures.sh

docs-tables: env ## write the tables of docs/ that come from the code
	@$(PY) -m gate.metrics.table docs/metrics.md

lock: env        ## write both lock files again
	@deploy/lock.sh

clean:           ## remove the demo's data, reports and caches; .venv stays
	rm -rf .gate reports .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
