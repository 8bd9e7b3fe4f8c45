"""PAPER=1 is the published recipe: each line's settings against data/published_settings.json."""

import configurator

import json
import re

import pytest
from conftest import ROOT
from test_repro import at_root, script_lines, settle  # noqa: F401, a fixture of every test

import masks
import run
import traits

PUBLISHED = json.loads((ROOT / "tests" / "data" / "published_settings.json").read_text())
SIX = [task for task in masks.EIGHT if not task.endswith("dynamics")]
CHOSEN_BY = {"six": SIX, "both": ["dt_bc", "dt_rc"]}
UNIMASK = {"norm": "post", "embedding": "relu", "init_range": 0.1, "positions": "sinusoidal"}
GPT = {"norm": "pre", "embedding": "norm", "init_range": 0.0}
MODELS = {  # by how a row's name begins
    "unimask": {"model_type": "unimask"} | UNIMASK,
    "dt": {"model_type": "dt"} | GPT,
    "nn": {"model_type": "nn"},
}
# What is no part of a recipe, or means nothing with the settings that are given.
FREE = {"overwrite", "wandb_log", "wandb_project", "device", "dtype", "compile", "threads", "seed"}
FREE |= {"data_seed", "eval_sequences", "dreams", "return_weight", "max_timestep", "best_tasks"}
FREE |= {"out_dir", "init_from", "eval_rollouts", "eval_modes", "init_range", "norm", "embedding"}
FREE |= {"positions", "n_head", "n_ff"}  # of which the feed-forward net has none


def table(world):
    """{row: {column: value}} of a world's published settings."""
    found = PUBLISHED[world]
    return {cells[0]: found["all"] | dict(zip(found["columns"], cells)) for cells in found["rows"]}


def lines(command):
    """{row: train.py's settings in full} of what a script would run, of one seed and context."""
    found = {}
    for arguments in script_lines(command):
        config = settle(arguments)
        assert run.row not in found
        given = configurator.given(run.split(arguments)[1])
        assert set(config) - given <= FREE, "every setting of the recipe is given"
        found[run.row] = config
    return found


def expected(published, trajectories, length, context, d):
    """Settings of train.py that follow from a row of the table. d: what a net has for a width."""
    batch = published["batch"]
    epoch = max(1, trajectories * length // (batch * context))  # steps
    same = ("task", "dropout", "weight_decay", "grad_clip", "action_weight", "learning_rate")
    return {name: published[name] for name in same} | {
        "num_trajectories": trajectories, "context": context, "batch_size": batch,
        "max_iters": published["epochs"] * epoch,
        "eval_interval": published["epochs_between_evaluations"] * epoch,
        "n_embd": d, "n_layer": published["layers"], "by_turns": True, "layout": "timestep",
        "hidden": "zero", "warmup_iters": 0, "decay_lr": False, "ema": 0.0, "head": "mean",
        "fourier_features": 0, "differences": False, "factor_hiding": 0.0, "returns": "unchanged",
        "tanh_actions": False, "fresh": False,
    }  # fmt: skip


def agree(config, wanted, row):
    for name, value in wanted.items():
        assert config[name] == value, f"{row}: {name}={config[name]!r}, published {value!r}"


@pytest.mark.parametrize("n, times", [(500, 1), (1000, 0.5), (50, 10)])
def test_each_line_of_doorkey_has_the_published_settings(n, times):
    rows = lines(f"PAPER=1 N={n} SEEDS=3 bash minigrid.sh")
    assert rows.keys() == table("doorkey").keys()
    for row, published in table("doorkey").items():
        config, kind = rows[row], row.partition("_")[0]
        model = MODELS.get(kind, MODELS["unimask"])
        net = model["model_type"] == "nn"  # all of its layers are as wide as the others' nets
        published["epochs"] *= times
        wanted = expected(published, n, 10, 10, published["ff" if net else "d"]) | model
        wanted["eval_interval"] = max(wanted["eval_interval"], wanted["max_iters"] // 1000)
        if not net:
            wanted |= {"n_head": published["heads"], "n_ff": published["ff"]}
        if kind == "dt":
            wanted["positions"] = "learned"
        else:
            wanted["state_weight"] = published["state_weight"]
        agree(config, wanted | {"dataset": "doorkey", "keep_best": "loss"}, row)
        # as train.py chooses: best_tasks, or those of its own that it is asked, or all of these
        asked = traits.chosen(config["eval_tasks"], config["model_type"])
        own = [name for name in masks.parse(config["task"]) if name in asked]
        best = config["best_tasks"].split(",") if config["best_tasks"] else own or asked
        assert set(best) == set(CHOSEN_BY.get(published["chosen_by"], [published["task"]])), row


@pytest.mark.parametrize("T", [5, 10])
def test_each_line_of_the_maze_has_the_published_settings(T):
    rows = lines(f"PAPER=1 SEEDS=3 CONTEXTS={T} bash maze2d.sh")
    assert rows.keys() == {f"{row}_T{T}" for row in table("maze2d")}
    for row, published in table("maze2d").items():
        config, kind = rows[f"{row}_T{T}"], row.partition("_")[0]
        wanted = expected(published, 900, 200, T, published["d"]) | MODELS[kind]
        if kind == "dt":
            wanted["positions"] = "timestep" if row.endswith("timestep") else "learned"
        if kind != "nn":
            wanted |= {"n_head": published["heads"], "n_ff": published["ff"]}
        wanted |= {"dataset": "maze2d-medium-raw", "keep_best": "return_sum"}
        wanted |= {"eval_rollouts": published["episodes"], "eval_modes": published["played"]}
        wanted["state_weight"] = published["state_weight"] / 2  # of two factors for one
        agree(config, wanted, row)


def test_the_published_steps_are_those_that_the_paper_is_known_by():
    random = {T: lines(f"PAPER=1 SEEDS=0 CONTEXTS={T} ROWS=unimask_random bash maze2d.sh")
              for T in (5, 10)}  # fmt: skip
    assert random[5]["unimask_random_T5"]["max_iters"] == 720_000
    assert random[10]["unimask_random_T10"]["max_iters"] == 360_000


@pytest.mark.parametrize("script", ["minigrid.sh", "maze2d.sh"])
def test_finetuned_models_start_from_one_seed_as_published_or_each_from_its_own(script):
    for variables, start, name in (("", 0, ""), ("PRETRAINED=each", 3, "_each")):
        rows = lines(f"{variables} PAPER=1 SEEDS=3 CONTEXTS=5 bash {script}")
        tuned = {row: config for row, config in rows.items() if "finetune" in row}
        assert len(tuned) in (8, 4)
        for row, config in tuned.items():
            assert re.fullmatch(rf"finetune:out/runs/\w+/\w+_s{start}", config["init_from"])
            assert name in row and ("each" in row) == bool(name)
