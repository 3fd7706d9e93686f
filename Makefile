# Everything sets itself up in .venv; `make help` lists what there is.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
DEMO := $(VENV)/.demo
SITE := $(VENV)/.docs/.installed
BROWSER := $(VENV)/.browser/.installed
ARGS ?=
# Where programs that write much keep their scratch files: in memory, where the system has such a folder.
MEMORY = $(firstword $(wildcard /dev/shm) $(or $(TMPDIR),/tmp))
# Tests start hundreds of processes. Each compiles every module again where an image's environment
# forbids to store the bytecode; an empty value allows it.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint crash freeze chaos many gaps vault-chaos fuzz fleet applications acknowledgements opens incidents leases find-noise reads-load report-load bench profile web-load browser idle growth release lock lambda lambda-bench lambda-chaos mysql rabbitmq aws-cli profiles schema docs reference picture screenshots clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(DEMO): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is needed: apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; `$(PYTHON) --version` was found. Say which: make PYTHON=python3.11 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv module is missing: apt-get install python3-venv"; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,demo]' || { echo "The packages could not be installed; pip says why above. It needs a package index that it can reach."; exit 1; }
	@touch $(DEMO)

$(STAMP): $(DEMO)
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,demo,dev]' || { echo "The packages for the tests could not be installed; pip says why above."; exit 1; }
	@touch $(STAMP)

demo: $(DEMO) ## the main job on a real PostgreSQL, in front of your eyes
	$(VENV)/bin/rotator demo $(ARGS)

# Half of the time a test waits for a server, so three processes keep two processors busy.
test: $(STAMP) ## the tests
	$(PY) -m pytest -n 3 --dist worksteal -m "not slow" $(ARGS)

test-all: $(STAMP) ## every test, also those that take minutes: some hours
	$(PY) -m pytest -n 3 --dist worksteal -m "slow or not slow" $(ARGS)

lint: $(STAMP) ## style, types, walls, plain English
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/basedpyright --level error
	$(VENV)/bin/lint-imports
	$(PY) -m tests.english

crash: $(STAMP) ## two crashes in one rotation, at every pair of points
	ROTATOR_CRASH=double $(PY) -m pytest tests/crash $(ARGS)

freeze: $(STAMP) ## each statement frozen on the server, and thawed at each later call of the engine
	$(PY) -m pytest -m slow tests/postgresql/test_freezing.py $(ARGS)

chaos: $(STAMP) ## SIGKILL at random over a real server, 200 times
	$(PY) -m tests.load.chaos $(ARGS)

many: $(STAMP) ## from nothing to 200 managed logins: commands, seconds, lines of YAML
	$(PY) -m tests.load.many $(ARGS)

gaps: $(STAMP) ## how long single-user leaves an application outside, beside a thousand troubles
	$(PY) -m tests.load.gaps $(ARGS)

vault-chaos: $(STAMP) ## SIGKILL at random while a real OpenBao rotates, and of that OpenBao, 100 times
	$(PY) -m tests.load.vault_chaos $(ARGS)

rabbitmq: $(STAMP) ## the contract on a real RabbitMQ, which takes 15 s to start: apt-get install rabbitmq-server
	ROTATOR_RABBITMQ=1 $(PY) -m pytest -m "not slow" tests/rabbitmq $(ARGS)

profiles: $(STAMP) ## logins drawn at random, rotated and compared: ENGINE=postgresql COUNT=2000
	$(PY) -m tests.load.profiles --engine $(or $(ENGINE),postgresql) --count $(or $(COUNT),2000) $(ARGS)

fuzz: $(STAMP) ## outside data, spoilt at random, through every parser of it: COUNT=10000000
	$(PY) -m tests.load.fuzz --count $(or $(COUNT),10000000) $(ARGS)

fleet: $(STAMP) ## three daemons and two workers that share the work, one killed every second
	$(PY) -m tests.load.fleet $(ARGS)

applications: $(STAMP) ## applications under load while their logins rotate, COUNT=200 of each strategy; ARGS=--table beside clients by hand
	TMPDIR=$(MEMORY) $(PY) -m tests.load.applications --count $(or $(COUNT),200) $(ARGS)

acknowledgements: $(STAMP) ## 10,000 instances report within a minute, on both journal databases: INSTANCES=10000
	$(PY) -m tests.load.acknowledgements --instances $(or $(INSTANCES),10000) $(ARGS)

opens: $(STAMP) ## readers of a file and a folder that the agent changes: OPENS=1000000 CHANGES=1000
	$(PY) -m tests.load.opens --opens $(or $(OPENS),1000000) --changes $(or $(CHANGES),1000) $(ARGS)

incidents: $(STAMP) ## 100 leaked passwords on four servers at once, and moves under applications: SECRETS=100 MOVES=10
	$(PY) -m tests.load.incidents --secrets $(or $(SECRETS),100) --moves $(or $(MOVES),10) $(ARGS)

report-load: $(STAMP) ## a report of a year, and a stranger who verifies a pack: SECRETS=100000
	$(PY) -m tests.load.report --secrets $(or $(SECRETS),100000) $(ARGS)

reads-load: $(STAMP) ## a million lines of an audit log: seconds and memory: LINES=1000000
	$(PY) -m tests.load.reads --lines $(or $(LINES),1000000) $(ARGS)

find-noise: $(STAMP) ## candidates in public code, and the time of a long history: COMMITS=10000
	$(PY) -m tests.load.find_noise --commits $(or $(COMMITS),10000) $(ARGS)

leases: $(STAMP) ## leases issued and ended on a real PostgreSQL, and a look over 10,000: CYCLES=10000; or a pool: POOL=1000
	$(PY) -m tests.load.leases --cycles $(or $(CYCLES),10000) --pool $(or $(POOL),0) $(ARGS)

bench: $(STAMP) ## the engine against a bare loop
	$(PY) -m tests.load.bench $(ARGS)

profile: $(STAMP) ## where the processor time of a rotation goes: the tables of docs/explanation/scale.md
	$(PY) -m tests.load.rotation_profile $(ARGS)

web-load: $(STAMP) ## the pages of the web console over 100,000 secrets: times and sizes
	$(PY) -m tests.load.web $(ARGS)

$(BROWSER): Makefile
	@command -v chromium >/dev/null || { echo "Chromium is needed: apt-get install chromium"; exit 1; }
	@command -v npm >/dev/null || { echo "npm is needed, for axe-core: apt-get install npm"; exit 1; }
	@test -x $(VENV)/.browser/bin/python || $(PYTHON) -m venv $(VENV)/.browser
	@$(VENV)/.browser/bin/python -m pip install --quiet --disable-pip-version-check 'playwright>=1.50' 'schemathesis>=4,<5'
	@cd $(VENV)/.browser && npm pack --silent axe-core@4 >/dev/null && tar xzf axe-core-4*.tgz package/axe.min.js && rm axe-core-4*.tgz
	@touch $(BROWSER)

browser: $(STAMP) $(BROWSER) ## the web console in Chromium: axe, keyboard, widths, dark; its API by schemathesis
	$(PY) -m tests.load.web_browser $(ARGS)

idle: $(STAMP) ## what the daemon costs over 100,000 secrets, ten minutes long
	$(PY) -m tests.load.idle $(ARGS)

growth: $(STAMP) ## what a look and a day cost over 1,000, 100,000 and 1,000,000 secrets
	$(PY) -m tests.load.growth

lambda: $(DEMO) ## the zips of the AWS Lambda rotation function, into dist/
	$(PY) deploy/lambda/build.py $(ARGS)

release: $(STAMP) ## the wheel, its source, its bill of materials and their checksums, into dist/
	@test -x $(VENV)/.release/bin/cyclonedx-py || { $(PYTHON) -m venv $(VENV)/.release && $(VENV)/.release/bin/python -m pip install --quiet --disable-pip-version-check 'cyclonedx-bom>=7,<8'; }
	$(PY) deploy/release.py $(ARGS)

lock: $(STAMP) ## pin the packages of the image by their hashes, by constraints.txt
	@test -x $(VENV)/.lock/bin/uv || { $(PYTHON) -m venv $(VENV)/.lock && $(VENV)/.lock/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.5'; }
	$(VENV)/.lock/bin/uv pip compile --quiet pyproject.toml --extra all --constraints constraints.txt --generate-hashes --no-header --no-annotate --universal --output-file deploy/docker/requirements.txt

lambda-chaos: $(STAMP) ## AWS rotates, and the function is killed at random, 200 times
	$(PY) -m tests.load.lambda_chaos $(ARGS)

lambda-bench: $(STAMP) ## what a cold start of the rotation function costs
	$(PY) -m tests.load.lambda_bench $(ARGS)

mysql: ## a real MySQL for the tests, into a cache folder: nothing is installed
	@.ci/mysql

aws-cli: $(STAMP) ## AWS's own command line, for its tests: apart, since it wants another botocore
	$(PYTHON) -m venv $(VENV)/.aws
	$(VENV)/.aws/bin/python -m pip install --quiet --disable-pip-version-check 'awscli>=1.40'

schema: $(STAMP) ## write the configuration's JSON Schema again
	$(PY) -m rotator.config > docs/reference/rotator.schema.json

reference: $(STAMP) ## write the generated parts of the documentation again
	$(PY) -m deploy.pages

picture: $(STAMP) ## draw the README's picture of the demo again, from a real run
	$(PY) -m deploy.pages.terminal

screenshots: $(STAMP) $(BROWSER) ## take the documentation's pictures of the web console again, of a real run
	$(PY) -m deploy.pages.screenshots

$(SITE): pyproject.toml constraints.txt
	@test -x $(VENV)/.docs/bin/python || $(PYTHON) -m venv $(VENV)/.docs
	@$(VENV)/.docs/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]' || { echo "The packages for the documentation could not be installed; pip names the cause above."; exit 1; }
	@touch $(SITE)

docs: $(SITE) ## the documentation as a site, into site/; checks every link
	NO_MKDOCS_2_WARNING=1 $(VENV)/.docs/bin/mkdocs build --clean $(ARGS)

clean: ## remove what the above made
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build dist site *.egg-info
