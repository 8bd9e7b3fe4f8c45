# make demo        train the main experiment (about a minute), evaluate it, draw its loss curves
# make demo-maze   the same in Maze2D (about 2 minutes)
# make test        the linter, the formatter (checking only) and the whole test suite
# make quick       the tests of masks, leaks and the loss, and one short training run
# The demos take two threads: a quarter less time, if nothing else runs.
# Each first makes .venv with everything that it needs. PYTHON=python3.12 takes another interpreter.

PYTHON ?= python3
WORKERS ?= 2
BIN = .venv/bin

.PHONY: demo demo-maze test quick clean
demo: .venv/ready
	$(BIN)/python train.py config/minigrid_random.py --out_dir=out/demo --overwrite=True --threads=2
	$(BIN)/python evaluate.py --out_dir=out/demo --threads=2
	$(BIN)/python plot.py --figure=curves --out_dir=out/demo

demo-maze: .venv/ready
	$(BIN)/python train.py config/maze2d_bc.py --out_dir=out/demo-maze --overwrite=True --threads=2
	$(BIN)/python evaluate.py --out_dir=out/demo-maze --threads=2
	$(BIN)/python rollout.py --out_dir=out/demo-maze --episodes=1000 --threads=2
	$(BIN)/python plot.py --figure=curves --out_dir=out/demo-maze

test: .venv/ready
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist=worksteal

quick: .venv/ready
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist=worksteal -m quick

.venv/ready: requirements.txt requirements-maze.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps -r requirements-maze.txt
	touch .venv/ready

clean:
	rm -rf out .venv
