"""The runs of both reproductions, one `python repro/job.py ...` line each, and the recipes behind them.

    python repro/jobs.py minigrid --n=500 --seeds="0 1 2"             # all lines, those to finetune from first
    python repro/jobs.py maze2d --maze=umaze --seeds=0 --phase=1      # only the runs that start from another run

A recipe is a config file and what differs from it: the values to edit are the dictionaries below. A key that is a
number holds what differs at that N (trajectories of DoorKey) or T (context of Maze2D) only.
`--preset=paper` takes the published settings instead, and no config file; `--preset=smoke` makes every run tiny.
Read next: minigrid.sh and maze2d.sh, which run the lines.
"""

import argparse
import itertools
import os
import shlex
from typing import NamedTuple

import job

# ---- the recipes: DoorKey --------------------------------------------------------------------------------------------
MINIGRID_TASKS = (
    "behavior_cloning",
    "reward_conditioned",
    "goal_conditioned",
    "waypoint",
    "past",
    "future",
    "forward_dynamics",
    "backward_dynamics",
)
FEW = {50: {"n_embd": 64, "n_layer": 2, "n_head": 4, "dropout": 0.4, "weight_decay": 0.5}}  # soon known by heart
MINIGRID = {
    "behavior_cloning": {"config": "minigrid_bc"},
    "reward_conditioned": {"config": "minigrid_rc"},
    "goal_conditioned": {"config": "minigrid_goal"},
    "waypoint": {"config": "minigrid_waypoint"},
    "past": {"config": "minigrid_past"},
    "future": {"config": "minigrid_future"},
    "forward_dynamics": {"config": "minigrid_forward"},
    "backward_dynamics": {"config": "minigrid_backward"},
    "all": {"config": "minigrid_all", **FEW},
    "random": {"config": "minigrid_random", "max_iters": 5000, "eval_interval": 500, "dtype": "bfloat16", **FEW},
    "nn_bc": {"config": "nn_bc"},
    "nn_random": {"config": "nn_random"},
    "dt_bc": {"config": "dt_bc"},
    "dt_rc": {"config": "dt_rc"},
}
STEPS_TIMES = {50: 0.4}  # N: what the steps of all recipes are multiplied by; few trajectories are soon known by heart
# The row random+finetune: for each column a model of its own, which starts from `random` of the same seed. Each takes
# the recipe of `random`, then this one. What to predict an action from overfits first: more dropout there.
CONTROL = {"learning_rate": 5e-4, "dropout": 0.2, "weight_decay": 0.1, "max_iters": 300, **FEW}
INFERENCE = {"learning_rate": 3e-4, "max_iters": 400, **FEW}
DYNAMICS = {50: FEW[50] | {"learning_rate": 1e-3, "dropout": 0.1, "max_iters": 1500}}  # 50 teach random masks few moves
MINIGRID_FINETUNE = {
    "behavior_cloning": CONTROL | {"learning_rate": 1e-3},
    "reward_conditioned": CONTROL,
    "goal_conditioned": CONTROL,
    "waypoint": CONTROL,
    "past": INFERENCE,
    "future": INFERENCE | {"dropout": 0.2},
    "forward_dynamics": INFERENCE | DYNAMICS,
    "backward_dynamics": INFERENCE | DYNAMICS,
}
FINETUNED_ALIKE = {"eval_sequences": 4000, "eval_interval": 50, "warmup_iters": 20}
CURVE = ("50", "500", "1000", "10000", "unlimited")  # trajectories along the learning curve
# ---- the recipes: Maze2D ---------------------------------------------------------------------------------------------
MAZE2D = {
    "unimask_bc": {"config": "maze2d_bc"},
    "unimask_rc": {"config": "maze2d_rc"},
    "unimask_bc_rc": {"config": "maze2d_bc_rc"},
    "unimask_random": {"config": "maze2d_random"},
    "unimask_random_bc": {"config": "maze2d_random", "task": "random_bc", "eval_modes": "bc,bc_states"},
    "dt_bc": {"config": "maze2d_dt_bc"},
    "dt_rc": {"config": "maze2d_dt_rc"},
    "dt_bc_timestep": {"config": "maze2d_dt_bc", "positions": "timestep"},
    "dt_rc_timestep": {"config": "maze2d_dt_rc", "positions": "timestep"},
    "nn_bc": {"config": "maze2d_nn_bc"},
    "nn_rc": {"config": "maze2d_nn_rc"},
}
TO_BC = {"task": "behavior_cloning_states", "eval_modes": "bc,bc_states"}
TO_RC = {"task": "reward_conditioned_states", "eval_modes": "rc,rc_states"}
LONGER = {"max_iters": 20000, "eval_interval": 5000}  # random masks teach little of driving: 10,000 steps were too few
SHORTER = {"learning_rate": 1e-3, "warmup_iters": 50, "max_iters": 10000, "eval_interval": 2500}
MAZE2D_FINETUNE = {  # row: (the row that it starts from, its recipe on top of that row's)
    "unimask_random_finetune_bc": ("unimask_random", TO_BC | LONGER),
    "unimask_random_finetune_rc": ("unimask_random", TO_RC | LONGER),
    "unimask_bc_rc_finetune_bc": ("unimask_bc_rc", TO_BC | SHORTER),
    "unimask_bc_rc_finetune_rc": ("unimask_bc_rc", TO_RC | SHORTER),
}
# ----------------------------------------------------------------------------------------------------------------------

# The published settings (Uni[MASK], appendix, and the original's code), all given, whatever train.py's defaults are.
PAPER = {
    "learning_rate": 1e-4, "warmup_iters": 0, "decay_lr": False, "weight_decay": 1e-4, "grad_clip": 0.5, "ema": 0.0,
    "gradient_accumulation": 1, "layout": "timestep", "hidden": "zero", "positions": "sinusoidal", "norm": "post",
    "octaves": 0, "differences": False, "tanh_actions": False, "factor_hiding": 0.0, "returns": "unchanged",
    "fresh": False, "action_weight": 1.0,
}  # fmt: skip
PAPER_MINIGRID = {  # row: model, task, epochs at 500 trajectories, batch, n_embd, n_layer, n_head, n_ff, state weight
    "behavior_cloning": ("unimask", "behavior_cloning", 1500, 250, 32, 2, 4, 128, 0.1),
    "reward_conditioned": ("unimask", "reward_conditioned", 1500, 50, 32, 3, 4, 128, 1.0),
    "goal_conditioned": ("unimask", "goal_conditioned", 3000, 250, 128, 3, 8, 128, 1.0),
    "waypoint": ("unimask", "waypoint", 3000, 250, 128, 3, 8, 128, 1.0),
    "past": ("unimask", "past", 2000, 250, 32, 4, 4, 128, 0.5),
    "future": ("unimask", "future", 2000, 250, 128, 2, 4, 32, 0.5),
    "forward_dynamics": ("unimask", "forward_dynamics", 1500, 250, 128, 3, 8, 128, 1.0),
    "backward_dynamics": ("unimask", "backward_dynamics", 1500, 50, 128, 3, 8, 128, 0.5),
    "all": ("unimask", "all", 10000, 250, 32, 3, 4, 128, 1.0),
    "random": ("unimask", "random", 10000, 100, 128, 2, 8, 128, 1.0),
    "nn_bc": ("nn", "behavior_cloning", 3000, 100, 32, 3, 8, 128, 0.5),
    "nn_random": ("nn", "random", 10000, 250, 32, 3, 8, 128, 0.5),
    "dt_bc": ("dt", "dt_bc", 1500, 250, 32, 3, 8, 128, 1.0),
    "dt_rc": ("dt", "dt_rc", 1500, 250, 32, 3, 8, 128, 1.0),
}
PAPER_MINIGRID_FINETUNE = {  # task: epochs at 500 trajectories, learning rate
    "behavior_cloning": (10000, 5e-6),
    "reward_conditioned": (500, 5e-6),
    "goal_conditioned": (1500, 1e-5),
    "waypoint": (1500, 1e-5),
    "past": (500, 5e-6),
    "future": (500, 5e-6),
    "forward_dynamics": (10000, 1e-5),
    "backward_dynamics": (1500, 1e-5),
}
EPOCHS_TIMES = {50: 10, 500: 1, 1000: 0.5}  # N: what the published epochs are multiplied by
PAPER_MAZE2D = {"n_embd": 128, "n_layer": 4, "n_head": 16, "n_ff": 128, "batch_size": 100, "dropout": 0.0,
                "keep_best": "return", "eval_rollouts": 100, "state_weight": 1.0}  # fmt: skip
PAPER_MAZE2D_TASK = {  # row: task, modes
    "unimask_bc": ("behavior_cloning", "bc"),
    "unimask_rc": ("reward_conditioned", "rc"),
    "unimask_bc_rc": ("behavior_cloning+reward_conditioned", "bc,rc"),
    "unimask_random": ("random", "bc,rc"),
    "unimask_random_bc": ("random_bc", "bc"),
    "dt_bc": ("dt_bc", "bc"),
    "dt_rc": ("dt_rc", "rc"),
    "dt_bc_timestep": ("dt_bc", "bc"),
    "dt_rc_timestep": ("dt_rc", "rc"),
    "nn_bc": ("behavior_cloning", "bc"),
    "nn_rc": ("reward_conditioned", "rc"),
}
SMOKE = {"max_iters": 1, "eval_interval": 1, "eval_sequences": 20, "batch_size": 8, "n_embd": 16, "n_head": 2,
         "n_layer": 1, "n_ff": 16}  # fmt: skip
SMOKE_FLAGS = {"sequences": 40, "rollouts": 4}


class Run(NamedTuple):
    """One run: the row of the table it belongs to, its name among the runs, and its command line."""

    row: str
    name: str
    line: str


class Study(NamedTuple):
    """One reproduction: which world, its N or maze, and the preset. fraction: of the steps, to measure their time."""

    world: str  # "minigrid" or "maze2d"
    variant: str  # "500", "medium", ...
    preset: str = "default"
    fraction: float = 1.0

    @property
    def name(self):
        return f"{self.world}_{self.variant}" + ("_paper" if self.preset == "paper" else "")

    @property
    def folder(self):
        """Where results and figures go: the repository, or out/ for what is only a trial."""
        return "out/smoke/" if self.preset == "smoke" else "out/fraction/" if self.fraction < 1 else ""

    @property
    def runs(self):
        """The folder of the per-run results."""
        return f"{self.folder}repro/results/runs/{self.name}"

    def out_dir(self, name):
        return f"{self.folder or 'out/'}runs/{self.name}/{name}"


def minigrid(study, seeds):
    """The Runs of the heatmap in two phases: from scratch, and finetuned from `random` of the same seed."""
    n = int(study.variant)
    first, second = [], []
    for seed in seeds:
        tuned = [run_of(study, "random+finetune", finetune_name(task), seed, *minigrid_finetune(study, task, n),
                        start=study.out_dir(f"random_s{seed}"), tasks=task) for task in MINIGRID_TASKS]  # fmt: skip
        second += tuned
        for row in MINIGRID:
            recipe = minigrid_recipe(study, row, n)
            first.append(run_of(study, row, row, seed, *recipe, needed=row == "random" and any(map(todo, tuned))))
    return [first, second]


def learning_curve(study, seeds):
    """The Runs of the row `random` for each number of trajectories, in one phase; some are also of a heatmap."""
    runs = []
    for seed in seeds:
        for n in CURVE:
            recipe = minigrid_recipe(study, "random", n if n == "unlimited" else int(n))
            runs.append(run_of(study._replace(variant=n), "random", "random", seed, *recipe))
    return [runs]


def minigrid_recipe(study, row, n):
    """(config file or None, settings) of a row that starts from scratch."""
    if study.preset == "paper":
        model, task, epochs, batch, *shape, state_weight = PAPER_MINIGRID[row]
        steps = paper_steps(epochs, n, batch)
        settings = {"dataset": "doorkey", "model": model, "task": task, "num_trajectories": n, "batch_size": batch}
        settings |= dict(zip(("n_embd", "n_layer", "n_head", "n_ff"), shape)) | {"state_weight": state_weight}
        settings |= PAPER | {"context": 10, "dropout": 0.1, "keep_best": "loss"}
        return None, settings | lasting(steps)
    config, settings = settled(MINIGRID[row], n)
    settings["max_iters"] = scaled(settings.get("max_iters") or job.configurator.read_file(config)["max_iters"], n)
    amount = {"fresh": True} if n == "unlimited" else {"num_trajectories": int(n)}
    return config, amount | settings


def minigrid_finetune(study, task, n):
    """(config file or None, settings) of the model finetuned for a task: those of `random`, then its own."""
    config, settings = minigrid_recipe(study, "random", n)
    if study.preset == "paper":
        epochs, rate = PAPER_MINIGRID_FINETUNE[task]
        steps = paper_steps(epochs, n, settings["batch_size"])
        return config, settings | {"task": task, "learning_rate": rate} | lasting(steps)
    own = settled(MINIGRID_FINETUNE[task], n)[1]
    own["max_iters"] = scaled(own["max_iters"], n)
    return config, settings | {"task": task, "eval_tasks": task} | FINETUNED_ALIKE | own


def scaled(steps, n):
    """A recipe's steps at N trajectories ("unlimited" as many as 500)."""
    return round(steps * STEPS_TIMES.get(n, 1))


def paper_steps(epochs, n, batch):
    """Steps of the published epochs at N trajectories: an epoch has N x 10 / (batch x 10) steps, and at least one."""
    return round(epochs * EPOCHS_TIMES.get(n, 500 / n)) * max(1, n * 10 // (batch * 10))


def lasting(steps):
    """max_iters, and an evaluation each fiftieth of it."""
    return {"max_iters": steps, "eval_interval": max(1, steps // 50)}


def finetune_name(task):
    return f"random+finetune-{task}"


def maze2d(study, seeds, contexts=(5, 10)):
    """The Runs of the Maze2D table in two phases: from scratch, and finetuned from one of the same seed and context."""
    first, second = [], []
    for seed, T in itertools.product(seeds, contexts):
        needed = set()  # the rows whose checkpoints a run waits for
        for row, (start, _) in MAZE2D_FINETUNE.items():
            recipe = maze2d_finetune(study, row, T)
            second.append(
                run_of(study, row, f"{row}_T{T}", seed, *recipe, start=study.out_dir(f"{start}_T{T}_s{seed}"))
            )
            needed |= {start} if todo(second[-1]) else set()
        for row in MAZE2D:
            first.append(run_of(study, row, f"{row}_T{T}", seed, *maze2d_recipe(study, row, T), needed=row in needed))
    return [first, second]


def maze2d_recipe(study, row, T):
    """(config file or None, settings) of a row that starts from scratch."""
    place = {"dataset": f"maze2d-{study.variant}", "num_trajectories": 900, "context": T}
    if study.preset == "paper":
        task, modes = PAPER_MAZE2D_TASK[row]
        model = row.partition("_")[0]
        positions = "timestep" if row.endswith("_timestep") else "sinusoidal"
        settings = (
            place
            | {"model": model, "task": task, "eval_modes": modes}
            | PAPER
            | PAPER_MAZE2D
            | {"positions": positions}
        )
        return None, settings | lasting(maze2d_paper_steps(2000, T))
    config, settings = settled(MAZE2D[row], T)
    return config, place | settings


def maze2d_finetune(study, row, T):
    """(config file or None, settings) of a finetuned row: those of the row it starts from, then its own."""
    start, recipe = MAZE2D_FINETUNE[row]
    config, settings = maze2d_recipe(study, start, T)
    if study.preset == "paper":
        kind = row[-2:]
        task = {"bc": "behavior_cloning", "rc": "reward_conditioned"}[kind]
        tuned = {"task": task, "eval_modes": kind, "learning_rate": 8e-5}
        return config, settings | tuned | lasting(maze2d_paper_steps(600, T))
    return config, settings | settled(recipe, T)[1]


def maze2d_paper_steps(epochs, T):
    """Steps of the published epochs: 900 episodes of 200 steps in batches of 100 windows of T."""
    return epochs * (900 * 200 // (100 * T))


# ---------------------------------------------------------------------------------------------------------------------
# From a recipe to a command line


def settled(recipe, variant):
    """(config file or None, settings) of a recipe at one N or T."""
    settings = {key: value for key, value in recipe.items() if isinstance(key, str)} | recipe.get(variant, {})
    config = settings.pop("config", None)
    return config and f"config/{config}.py", settings


def run_of(study, row, name, seed, config, settings, start=None, needed=False, tasks=""):
    """The Run with these settings. start: out_dir of the run to finetune. needed: others start from its checkpoint.

    tasks: that it is asked in the end; empty: all that it can do.
    """
    name = f"{name}_s{seed}"
    flags = {"tasks": tasks} if tasks else {}
    if needed:
        flags["checkpoint"] = True
    if study.world == "maze2d" and study.preset == "paper":  # every policy is asked twice, whatever it was followed by
        flags["modes"] = ",".join(f"{mode},{mode}_states" for mode in settings["eval_modes"].split(","))
    if study.preset == "smoke":
        settings = settings | SMOKE | ({"eval_rollouts": 4} if study.world == "maze2d" else {})
        flags |= SMOKE_FLAGS
    if study.fraction < 1:
        settings = settings | {"max_iters": max(1, round(settings["max_iters"] * study.fraction))}
    settings = settings | {"seed": seed, "threads": 1, "out_dir": study.out_dir(name)}
    if start:
        settings["init_from"] = f"finetune:{start}"
    flags["result"] = f"{study.runs}/{name}.json"
    words = [f"--{key}={value}" for key, value in flags.items()] + ([config] if config else [])
    words += [f"--{key}={value}" for key, value in settings.items()]
    return Run(row, name, shlex.join(["python", "repro/job.py", *words]))


def todo(run):
    """Whether a Run is still to be made."""
    return bool(job.todo(job.read_job(shlex.split(run.line)[2:])))


def phases(study, seeds, contexts=(5, 10)):
    """The Runs of a study: a list for each phase; a phase needs the one before it."""
    if study.fraction < 1 and study.preset != "paper":
        raise ValueError(
            f"a fraction of the steps ({study.fraction}) goes with --preset=paper, which gives their number"
        )
    if study.world == "curve":
        return learning_curve(study._replace(world="minigrid"), seeds)
    return minigrid(study, seeds) if study.world == "minigrid" else maze2d(study, seeds, contexts)


def study_arguments(parser):
    """Add what says which study is meant; heatmap.py and table.py take the same."""
    parser.add_argument("--preset", choices=("default", "paper", "smoke"), default="default")
    parser.add_argument(
        "--fraction", type=float, default=1.0, help="of the steps (presets with max_iters), to measure them"
    )
    return parser


def main():
    parser = study_arguments(argparse.ArgumentParser(description="list the runs of a reproduction, one command each"))
    parser.add_argument("world", choices=("minigrid", "curve", "maze2d"))
    parser.add_argument("--n", type=int, default=500, help="trajectories of DoorKey")
    parser.add_argument("--maze", choices=("umaze", "medium", "large"), default="medium")
    parser.add_argument("--contexts", default="5 10", help="of Maze2D")
    parser.add_argument("--seeds", default="0", help='e.g. "0 1 2"')
    parser.add_argument("--rows", default="", help='e.g. "random random+finetune"; empty: all')
    parser.add_argument(
        "--phase", type=int, choices=(0, 1), help="only the runs from scratch (0) or the finetuned ones (1)"
    )
    args = parser.parse_args()
    job.configurator.one_line_errors()
    os.chdir(job.ROOT)
    study = Study(args.world, args.maze if args.world == "maze2d" else str(args.n), args.preset, args.fraction)
    seeds, contexts = ([int(word) for word in text.split()] for text in (args.seeds, args.contexts))
    found, rows = phases(study, seeds, contexts), args.rows.split()
    if unknown := set(rows) - {run.row for runs in found for run in runs}:
        raise ValueError(
            f"there is no row {min(unknown)!r}; rows are {', '.join(dict.fromkeys(r.row for runs in found for r in runs))}"
        )
    for number, runs in enumerate(found):
        if args.phase in (None, number):
            print("\n".join(run.line for run in runs if run.row in rows or not rows))


if __name__ == "__main__":
    main()
