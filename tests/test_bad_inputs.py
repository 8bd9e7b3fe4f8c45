"""Bad settings, files, data and folders: one line on stderr, soon, and all is left as it was."""

import io
import json
import os
import pickle
import random
import resource
import shlex
import warnings
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from runs import files, good, same, saved, snapshot

import checkpoint
import doorkey
from data import Factor, Trajectories

TINY = (
    "--num_trajectories=20 --n_embd=16 --n_ff=16 --n_layer=1 --n_head=2 --batch_size=8 --max_iters=2 "
    "--eval_interval=2 --eval_sequences=20 --eval_tasks=past --threads=1"
).split()

SETTINGS = {  # command: words that its one line must hold
    "train.py --lerning_rate=1": ["lerning_rate", "learning_rate"],
    "train.py --model=nn": ["model_type"],
    "train.py --batch_size=many": ["batch_size", "many", "int"],
    "train.py --batch_size=0": ["batch_size", "0"],
    "train.py --eval_interval=0": ["eval_interval", "0"],
    "train.py --task=pasta": ["pasta", "past"],
    "train.py --task=None": ["task"],
    "train.py --returns=frist": ["frist", "with_state"],
    "train.py --model_type=dt --task=past": ["dt", "past", "dt_bc"],
    "train.py --task=dt_bc": ["unimask", "dt_bc"],
    "train.py --model_type=gpt": ["gpt", "unimask"],
    "train.py --head=modal": ["modal", "median"],
    "train.py --layout=stacked": ["stacked", "timestep"],
    "train.py --keep_best=returns": ["returns", "return"],
    "train.py --keep_best=return": ["eval_rollouts"],
    "train.py --eval_tasks=past,futur": ["futur", "future"],
    "train.py --eval_tasks=past --best_tasks=future": ["best_tasks", "future"],
    "train.py --eval_tasks=span(0,99)": ["span(0,99)"],
    "train.py --task=span(0,99)": ["span(0,99)"],
    "train.py --task=span(0,0)": ["span(0,0)"],
    "train.py --task=past,future": ["no task", "past+future"],
    "train.py --task=span(0,99999999999)": ["no task", "span(0,99999999999)"],
    "train.py --context=11": ["11", "10"],
    "train.py --context=-1": ["context=-1", "at least 1"],
    "train.py --context=1 --task=goal_conditioned": ["1", "short"],
    "train.py --n_head=3": ["n_head", "3"],
    "train.py --n_embd=15 --n_head=1": ["n_embd", "even"],
    "train.py --seed=-1": ["seed", "-1"],
    "train.py --seed=99999999999999999999": ["seed"],
    "train.py --data_seed=99999999999999999999": ["seed"],
    "train.py --threads=99999999999999": ["threads"],
    "train.py --state_weight=nan": ["state_weight"],
    "train.py --action_weight=-1": ["action_weight"],
    "train.py --action_weight=0 --task=behavior_cloning": ["behavior_cloning", "action_weight"],
    "train.py --return_weight=-1": ["return_weight", "-1"],
    "train.py --return_weight=nan": ["return_weight"],
    "train.py --task=return_to_go": ["return_to_go", "return_weight"],
    "train.py --return_weight=1": ["return_weight=1.0", "'random'"],
    "train.py --task=all --batch_size=4": ["4", "'all'"],
    "train.py --task=random+all --by_turns=True": ["by_turns", "'random+all'"],
    "train.py --task=random+return_backup": ["return_backup", "return_weight"],
    "train.py --model_type=dt --task=return_to_go --return_weight=1": ["dt", "return_to_go"],
    "train.py --learning_rate=inf": ["learning_rate"],
    "train.py --dropout=1": ["dropout"],
    "train.py --ema=1": ["ema"],
    "train.py --fourier_features=-1": ["fourier_features"],
    "train.py --num_trajectories=-1": ["num_trajectories", "-1"],
    "train.py --device=tpu": ["device", "tpu"],
    "train.py --device=cuda:99": ["device", "cuda:99"],
    "train.py --eval_rollouts=2 --eval_modes=bc,cc": ["cc", "bc_states"],
    "train.py --init_from=scrtch": ["scrtch", "scratch"],
    "train.py --device=meta": ["device", "meta"],
    "train.py --batch_size=1000000000": ["batch_size=1000000000", "GiB"],
    "train.py --n_embd=1000000": ["n_embd=1000000", "GiB"],
    "train.py --n_layer=1000000000": ["n_layer=1000000000", "GiB"],
    "train.py --context=100000000000": ["context=100000000000", "GiB"],
    "train.py --positions=timestep --max_timestep=1000000000000": ["max_timestep=", "GiB"],
    "train.py --eval_sequences=1000000000000": ["eval_sequences=1000000000000", "GiB"],
    "train.py --eval_rollouts=1000000000000": ["eval_rollouts=1000000000000", "GiB"],
    "train.py --num_trajectories=1000000000000": ["num_trajectories=", "GiB"],
    "evaluate.py --out_dir=run --device=meta": ["meta"],
    "evaluate.py --out_dir=run --sequences=1000000000000": ["sequences=1000000000000", "GiB"],
    "sample.py --out_dir=run --samples=1000000000000": ["samples=1000000000000", "GiB"],
    "sample.py --out_dir=run --samples=2 --world --see=state[0] --horizon=1000000000000": ["GiB"],
    "sample.py --out_dir=run --given=action[0]=1,action[0]=2": ["another value"],
    "worlds.py --n=1000000000 --out=new.npz": ["n=1000000000", "GiB"],
    "maze2d.py --n=1000000000000": ["n=1000000000000", "GiB"],
    "train.py --out_dir out/x": ["--out_dir=out/x"],
    "evaluate.py --out_dir=run --tasks=dt_bc": ["unimask", "dt_bc"],
    "evaluate.py --out_dir=run --tasks=past,": ["task"],
    "evaluate.py --out_dir=run --tasks=span(0,99)": ["span(0,99)"],
    "evaluate.py --out_dir=run --split=tets": ["tets", "test"],
    "evaluate.py --out_dir=run --sequences=0": ["sequences", "0"],
    "evaluate.py --out_dir=run --seed=-1": ["seed", "-1"],
    "evaluate.py --out_dir=run --seed=99999999999999999999": ["seed"],
    "evaluate.py --out_dir=run --device=tpu": ["tpu"],
    "rollout.py --out_dir=run --modes=cc": ["cc", "bc_states", "waypoint"],
    "rollout.py --out_dir=run --modes=best": ["best", "return_weight"],
    "rollout.py --out_dir=run --episodes=0": ["episodes", "0"],
    "rollout.py --out_dir=run --episodes=1000000000000": ["episodes=1000000000000", "GiB"],
    "rollout.py --out_dir=worth --modes=plan --candidates=1000000000000": ["candidates=10", "GiB"],
    "bench.py --sequences=1000000000000": ["sequences=1000000000000", "below 1000000"],
    "train.py --eval_rollouts=2 --eval_modes=best": ["return_weight"],
    "rollout.py --out_dir=run --modes=rc --target_return=inf": ["target_return", "inf", "x0.8"],
    "rollout.py --out_dir=run --modes=rc --target_return=xnan": ["target_return", "xnan"],
    "rollout.py --out_dir=run --modes=rc_all --target_return=2,,4": ["target_return", "2,,4"],
    "rollout.py --out_dir=run --target_return=": ["target_return"],
    "rollout.py --out_dir=run --target_return=None": ["target_return", "None"],
    "rollout.py --out_dir=worth --modes=best --quantile=1": ["quantile", "1"],
    "rollout.py --out_dir=worth --modes=best --quantile=nan": ["quantile", "nan"],
    "rollout.py --out_dir=run --sampled=maybe": ["sampled", "maybe"],
    "rollout.py --out_dir=run --device=tpu": ["tpu"],
    "rollout.py --out_dir=run --env=Nothing-v0": ["Nothing-v0"],
    "rollout.py --out_dir=nowhere": ["--env"],
    "dream.py --n=0 --out=new.npz": ["n=0"],
    "dream.py --policy=run --dynamics=, --out=new.npz": ["no run", "STATE"],
    "dream.py --policy=run --n=1000000000000 --out=new.npz": ["n=1000000000000", "GiB"],
    "dream.py --seed=-1 --out=new.npz": ["seed", "-1"],
    "dream.py --policy=run --dynamics=run --returns=": ["--out"],
    "dream.py --policy=run --dynamics=run --returns=run --out=new.npz": ["run", "RETURN"],
    "dream.py --policy=run --dynamics=nowhere --returns= --out=new.npz": ["nowhere", "factors"],
    "dream.py --policy=other_world --dynamics=run --out=new.npz": ["other_world", "factors"],
    "sample.py --out_dir=run --predict=return[0]": ["return_to_go"],
    "sample.py --out_dir=run --task=return_to_go": ["return_to_go"],
    "sample.py --out_dir=run --see=state[0": ["the end", "]"],
    "sample.py --out_dir=run --see=state[١٢٣٤]": ["outside"],
    "sample.py --out_dir=run --given=action[0]=1e400": ["action"],
    "sample.py --out_dir=nowhere --given=position[0]=(1e400,0)": ["character 13"],
    "sample.py --out_dir=run --seed=99999999999999999999": ["seed"],
    "sample.py --out_dir=run --device=tpu": ["tpu"],
    "sample.py --out_dir=run --temperature=nan": ["temperature"],
    "sample.py --out_dir=run --horizon=-1 --world --see=state[0]": ["horizon"],
    "sample.py --out_dir=nowhere --world --see=state[0]": ["world"],
    "sample.py --out_dir=nowhere --exact": ["exact"],
    "worlds.py --world=dorkey --out=new.npz": ["dorkey", "doorkey"],
    "worlds.py --n=0 --out=new.npz": ["n=0"],
    "worlds.py --n=3 --seed=-1 --out=new.npz": ["seed", "-1"],
    "worlds.py --n=3": ["--out"],
    "importing.py --source=toy.npz": ["out"],
    "plot.py --figure=scatter": ["scatter", "curves"],
    "plot.py --figure=posterior --out_dir=nowhere": ["posterior"],
}

FILES = {  # the same; what is read or written is bad here
    "train.py --dataset=missing.npz": ["missing.npz"],
    "train.py --dataset=folder.npz": ["folder.npz"],
    "train.py --dataset=pickled.npz": ["pickled.npz"],
    "train.py --dataset=dorkey": ["dorkey", "doorkey"],
    "train.py --dataset=toy.npz --context=13": ["context", "13", "12"],
    "train.py --dataset=toy.npz --context=5 --positions=timestep --max_timestep=11": ["11", "12"],
    "train.py --dataset=long.npz --context=5 --positions=timestep": ["timestep", "1000"],
    "train.py --dataset=toy.npz --num_trajectories=500": ["toy.npz", "500"],
    "train.py --dataset=toy.npz --num_trajectories=21": ["toy.npz", "20"],
    "train.py --dataset=toy.npz --fresh": ["toy.npz"],
    "train.py --dataset=toy.npz --eval_rollouts=2": ["toy.npz"],
    "train.py --dreams=missing.npz": ["missing.npz"],
    "train.py --dreams=a_file.txt": ["a_file.txt"],
    "train.py --dreams=folder.npz": ["folder.npz"],
    "train.py --dataset=replaced.npz --init_from=resume --out_dir=before --max_iters=4": [
        "replaced.npz"
    ],
    "evaluate.py --out_dir=before": ["replaced.npz has changed"],
    "rollout.py --out_dir=before": ["replaced.npz has changed"],
    "sample.py --out_dir=before": ["replaced.npz has changed"],
    "film.py --out_dir=before --out=film.gif": ["replaced.npz has changed"],
    "train.py --init_from=resume": ["checkpoint"],
    "train.py --dataset=beyond.npz --context=5 --tanh_actions=True": ["tanh_actions", "action"],
    "train.py --dataset=states.npz --context=5 --task=behavior_cloning": ["behavior_cloning"],
    "train.py --dataset=states.npz --context=5 --model_type=dt --task=dt_bc --eval_tasks=dt_bc": [
        "nothing"
    ],
    "train.py --dataset=twice.npz --context=5": ["twice.npz", "two arrays of one name"],
    "train.py --dataset=liar.npz --context=5": ["liar.npz", "doorkey", "agent_pos", "position"],
    "evaluate.py --out_dir=run --out=/proc/eval.json": ["cannot write /proc/eval.json"],
    "worlds.py --file=claims.npz": ["claims.npz", "allocate"],
    "worlds.py --file=bomb.npz": ["bomb.npz", "times its size"],
    "worlds.py --file=a_pipe": ["no data file"],
    "worlds.py --n=3 --out=a_pipe.npz": ["cannot write a_pipe.npz", "pipe"],
    "evaluate.py --out_dir=run --out=train.py": ["ends in .json", "train.py"],
    "rollout.py --out_dir=run --out=run/best.pt": ["ends in .json", "run/best.pt"],
    "worlds.py --file=run": ["header"],
    "plot.py --figure=posterior --out_dir=gpt": ["dt", "span(3,8)", "behavior_cloning"],
    "train.py --init_from=resume --out_dir=bomb": ["bomb"],
    "train.py --init_from=resume --out_dir=best_only": ["best_only"],
    "train.py --init_from=finetune:missing.pt": ["missing.pt"],
    "train.py --init_from=finetune:bomb.pkl": ["bomb.pkl"],
    "train.py --init_from=finetune:folder.npz": ["checkpoint"],
    "train.py --init_from=finetune:a_file.txt": ["a_file.txt"],
    "train.py --init_from=finetune:old.pt": ["old.pt", "settings of no model"],
    "train.py --init_from=finetune:run --dataset=doorkey16": ["doorkey16", "factors"],
    "train.py --out_dir=/proc/run": ["/proc/run"],
    "train.py --out_dir=a_file.txt/run": ["a_file.txt"],
    "train.py --out_dir=a_file.txt": ["a_file.txt"],
    "train.py --out_dir=": ["out_dir"],
    "train.py config/../folder.npz": ["folder.npz"],
    "train.py syntax.py": ["syntax.py", "line 2"],
    "train.py null.py": ["null.py"],
    "train.py deep.py": ["deep.py"],
    "evaluate.py --out_dir=missing": ["missing"],
    "evaluate.py --out_dir=bomb": ["bomb"],
    "evaluate.py --out_dir=a_pipe": ["no checkpoint a_pipe"],
    "evaluate.py --out_dir=other_world": ["factors", "doorkey16"],
    "evaluate.py --out_dir=a_file.txt": ["a_file.txt"],
    "evaluate.py --out_dir=/proc": ["/proc"],
    "rollout.py --out_dir=missing": ["missing"],
    "rollout.py --out_dir=bomb": ["bomb"],
    "dream.py --policy=missing --out=new.npz": ["missing"],
    "dream.py --policy=bomb --out=new.npz": ["bomb"],
    "dream.py --policy=run --dynamics=bomb --out=new.npz": ["bomb"],
    "dream.py --policy=run --dynamics=run --returns=worth --n=3 --out=a_file.txt/d": ["a_file.txt"],
    "dream.py --policy=run --dynamics=run --returns=worth --n=3 --out=run": ["directory"],
    "sample.py --out_dir=bomb": ["bomb"],
    "sample.py --out_dir=other_world": ["factors", "doorkey16"],
    "sample.py --out_dir=run --picture=a_file.txt/a.png": ["a_file.txt"],
    "sample.py --out_dir=run --picture=/proc/a.png": ["/proc"],
    "worlds.py --n=3 --out=a_file.txt/new.npz": ["a_file.txt"],
    "worlds.py --n=3 --out=/proc/new.npz": ["/proc"],
    "worlds.py --n=3 --out=run": ["run"],
    "worlds.py --n=3 --out=toy.npz": ["toy.npz", "there already"],
    "worlds.py --file=folder.npz": ["folder.npz"],
    "worlds.py --file=a_file.txt": ["a_file.txt"],
    "plot.py --out_dir=missing": ["missing"],
    "plot.py --out_dir=run,missing": ["missing"],
    "plot.py --out_dir=bad_log": ["log.csv"],
    "plot.py --out_dir=empty_log": ["log.csv"],
    "plot.py --out_dir=binary_log": ["log.csv"],
    "plot.py --figure=posterior --out_dir=bomb": ["bomb"],
}


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def write_files_of_lies(here, toy_data):
    """Trajectory files that are not what they say."""
    values = toy_data.values
    Trajectories(toy_data.factors[:1], {"position": values["position"]}).save(here / "states.npz")
    replace(toy_data, values=values | {"action": 3 * values["action"]}).save(here / "beyond.npz")
    replace(toy_data, world="doorkey").save(here / "liar.npz")
    with zipfile.ZipFile(here / "toy.npz") as file:
        parts = {name: file.read(name) for name in file.namelist()}
    shape = {"descr": "<f4", "fortran_order": False}
    claims, bomb = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(claims, shape | {"shape": (24, 10**12)})
    np.lib.format.write_array_header_1_0(bomb, shape | {"shape": (10**8,)})
    cases = {
        "twice": [("values/action.npy", parts["values/action.npy"])],
        "claims": [("extras/more.npy", claims.getvalue() + bytes(96))],
        "bomb": [("extras/more.npy", bomb.getvalue() + bytes(4 * 10**8))],
    }
    for name, more in cases.items():
        with zipfile.ZipFile(here / f"{name}.npz", "w", zipfile.ZIP_DEFLATED) as file:
            for part, content in [*parts.items(), *more]:
                with warnings.catch_warnings(action="ignore"):  # of a name that is there twice
                    file.writestr(part, content)
    os.mkfifo(here / "a_pipe")
    os.mkfifo(here / "a_pipe.npz")


@pytest.fixture(scope="module")
def place(run_warm, toy_data, tmp_path_factory):
    """A folder of good runs and of bad files."""
    here = tmp_path_factory.mktemp("place")
    for name in ("toy.npz", "replaced.npz"):
        toy_data.save(str(here / name))
    runs = {"run": "doorkey", "worth": "doorkey --task=random_return --return_weight=1"}
    runs |= {"nowhere": "toy.npz", "before": "replaced.npz"}
    runs["gpt"] = "doorkey --model_type=dt --task=dt_bc --eval_tasks=dt_bc"
    for name, dataset in runs.items():
        line = [*TINY, *f"--dataset={dataset} --out_dir={name}".split()]
        good(run_warm("train.py", *line, cwd=here))
    doorkey.make_dataset(40, seed=0).save(str(here / "replaced.npz"))
    factors = [Factor("position", "STATE", "continuous", 1)]
    values = {"position": np.zeros((30, 1100, 1), np.float32)}
    Trajectories(factors, values).save(str(here / "long.npz"))
    np.savez(here / "pickled.npz", header=np.array(Payload(here / "executed"), dtype=object))
    write_files_of_lies(here, toy_data)
    (here / "folder.npz").mkdir()
    (here / "a_file.txt").write_text("no more than a file\n")
    (here / "syntax.py").write_text("seed = 1\ntask = = 2\n")
    (here / "null.py").write_bytes(b"seed = 1\0")
    (here / "deep.py").write_text("seed = " + "(" * 5000 + "1" + ")" * 5000)
    bomb = {"model_config": Payload(here / "executed")}
    (here / "bomb.pkl").write_bytes(pickle.dumps(bomb))
    torch.save({"model_config": {"model": "unimask"}, "config": {}}, here / "old.pt")
    whole = saved(here / "run")
    for name, content in (
        ("bomb", bomb),
        ("other_world", whole | {"config": whole["config"] | {"dataset": "doorkey16"}}),
    ):
        (here / name).mkdir()
        for part in ("best.pt", "ckpt.pt"):
            torch.save(content, here / name / part)
    (here / "best_only").mkdir()  # weights without what a run needs to go on
    (here / "best_only" / "ckpt.pt").write_bytes((here / "run" / "best.pt").read_bytes())
    logs = {"bad_log": b"iter,past\n0,fast\n", "empty_log": b"", "binary_log": b"\xff\xfe\0\n\0"}
    for name, content in logs.items():
        (here / name).mkdir()
        (here / name / "log.csv").write_bytes(content)
    return here


def refuses(line, place, run_warm, refused):
    """Run a command that must be refused soon, and change nothing; returns its one line."""
    script, *flags = shlex.split(line)
    given = {flag.split("=")[0] for flag in flags}
    defaults = [*TINY, "--out_dir=new"] if script == "train.py" else []
    if "--init_from" in given:  # the shape of the model is that of the checkpoint
        defaults = [flag for flag in defaults if not flag.startswith("--n_")]
    flags += [flag for flag in defaults if flag.split("=")[0] not in given]
    before = snapshot(place)

    def limit():  # seconds of work, however busy the machine is
        resource.setrlimit(resource.RLIMIT_CPU, (10, 10))

    message = refused(run_warm(script, *flags, cwd=place, inside=limit))
    assert snapshot(place) == before, "a refused command wrote something"
    return message


@pytest.mark.parametrize("line", SETTINGS | FILES)
def test_bad_input_ends_in_one_line_and_changes_nothing(line, place, run_warm, refused):
    message = refuses(line, place, run_warm, refused)
    assert all(word in message for word in (SETTINGS | FILES)[line]), message


@pytest.mark.parametrize(
    "variables",
    ["RANK=abc", "WORLD_SIZE=abc", "WORLD_SIZE=0", "RANK=-1", "RANK=1", "RANK=2 WORLD_SIZE=2"],
)
def test_an_environment_that_is_no_torchruns_is_refused(variables, run_warm, refused, tmp_path):
    given = dict(word.split("=") for word in variables.split())
    inside = lambda: os.environ.update(given)
    message = refused(run_warm("train.py", *TINY, cwd=tmp_path, inside=inside))
    assert variables.partition("=")[0] in message and not list(tmp_path.iterdir())


CRAFTED = {  # what somebody has changed in a checkpoint to resume: words of the refusal
    "iter": ["iter"], "rows": ["rows"], "best": ["best"], "loss_sum": ["loss_sum"],
    "optimizer": ["not whole"], "factors": ["factors", "str", "model"],
    "weights": ["model"], "model_config": ["checkpoint"], "config": ["no state to resume", "text"],
}  # fmt: skip


@pytest.mark.parametrize("part", CRAFTED)
def test_a_crafted_checkpoint_is_refused_in_one_line(part, place, tmp_path, run_warm, refused):
    whole = saved(place / "run")
    (tmp_path / "crafted").mkdir()
    for changed in ("text", [], {"text": {}}, None):
        torch.save(whole | {part: changed}, tmp_path / "crafted" / "ckpt.pt")
        line = "train.py --out_dir=crafted --init_from=resume --max_iters=4"
        message = refuses(line, tmp_path, run_warm, refused)
        assert any(word in message for word in CRAFTED[part]), message
    shape = whole["model_config"] | {"print": 3, "n_embd": "wide"}
    for name in ("print", "n_embd"):
        crafted = whole["model_config"] | {name: shape[name]}
        torch.save(whole | {"model_config": crafted}, tmp_path / "crafted" / "ckpt.pt")
        assert name in refuses(line, tmp_path, run_warm, refused) or name == "n_embd"


# ---- data ------------------------------------------------------------------------------------------


def changed(name, value):
    """A damage to a trajectory file: the array of this name becomes what a function makes of it."""
    return lambda arrays: arrays.update({name: value(arrays[name])})


def header(**changes):
    """A damage to the header: of the whole where it has such a key, or of its first factor."""

    def damage(arrays):
        plain = json.loads(str(arrays["header"]))
        for key, value in changes.items():
            (plain if key in plain else plain["factors"][0])[key] = value
        arrays["header"] = np.array(json.dumps(plain))

    return damage


def put(at, value):
    def f(array):
        array = array.astype(np.result_type(array, type(value)))
        array[at] = value
        return array

    return f


def first_rows(n):
    """A damage to every array: it keeps n trajectories."""

    def damage(arrays):
        for name in arrays.keys() - {"header"}:
            arrays[name] = arrays[name][:n]

    return damage


RETURN = {"name": "room", "group": "RETURN", "kind": "categorical", "size": 3}
DATA = {  # what is wrong with a trajectory file: how the good one (toy.npz) is damaged
    "a NaN": changed("values/position", put((0, 0, 0), np.nan)),
    "an infinity": changed("values/action", put((23, 3, 1), -np.inf)),
    "too much for a float32": changed("values/position", lambda x: x.astype(np.float64) * 1e300),
    "complex numbers": changed("values/position", lambda x: x * 1j),
    "dates": changed("values/room", lambda x: x.astype("datetime64[s]")),
    "a class out of range": changed("values/room", put((5, 5), 3)),
    "a class below 0": changed("values/room", put((5, 5), -1)),
    "beyond int64": changed("values/room", lambda x: x.astype(np.uint64) + np.uint64(2**63)),
    "fractions of classes": changed("values/room", lambda x: x / 2),
    "no trajectories": first_rows(0),
    "no timesteps": changed("values/room", lambda x: x[:, :0]),
    "lengths in fractions": changed("lengths", lambda x: x + 0.5),
    "lengths in a table": changed("lengths", lambda x: x[:, None]),
    "a length too long": changed("lengths", put(3, 13)),
    "a single length": changed("lengths", lambda x: x[0]),
    "a transposed factor": changed("values/room", lambda x: x.T),
    "numbers of the wrong size": changed("values/action", lambda x: x[..., :1]),
    "a factor that is missing": lambda arrays: arrays.pop("values/room"),
    "no header": lambda arrays: arrays.pop("header"),
    "a header that is a list": changed("header", lambda x: np.array("[]")),
    "a header without factors": header(factors=[]),
    "factors that are no list": header(factors="position"),
    "no text": changed("header", lambda x: np.frombuffer(b"\xff\xfe{}", np.uint8)),
    "an unknown key of a factor": header(colour="red"),
    "a size that is text": header(size="2"),
    "a size of 0": header(size=0),
    "a size below 0": header(size=-2),
    "an unknown kind": header(kind="ordinal"),
    "an unknown group": header(group="PLACE"),
    "a factor twice": header(name="action"),
    "a name that no query can hold": header(name="my position"),
    "a name that is no text": header(name=3),
    "the name of what windows hold already": header(name="timestep"),
    "a world that is no text": header(world=["doorkey"]),
    "nothing to predict": header(factors=[RETURN]),
}


def damaged_copy(place, tmp_path, damage):
    with np.load(place / "toy.npz") as file:
        arrays = {name: file[name] for name in file.files}
    damage(arrays)
    np.savez(tmp_path / "bad.npz", **arrays)
    return str(tmp_path / "bad.npz")


@pytest.mark.parametrize("damage", DATA)
def test_bad_data_are_refused_in_one_sentence(damage, place, tmp_path):
    path = damaged_copy(place, tmp_path, DATA[damage])
    with pytest.raises(ValueError, match="bad.npz is not a whole file of trajectories: ") as error:
        Trajectories.load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", ["a NaN", "no header", "too much for a float32"])
def test_commands_refuse_bad_data_in_one_line(damage, place, tmp_path, run_warm, refused):
    path = damaged_copy(place, tmp_path, DATA[damage])
    for line in (f"train.py --dataset={path} --context=5", f"worlds.py --file={path}"):
        assert "bad.npz" in refuses(line, place, run_warm, refused)


def test_one_endless_episode_is_too_little_to_train_on(place, tmp_path, run_warm, refused):
    line = f"train.py --dataset={damaged_copy(place, tmp_path, first_rows(1))} --context=5"
    message = refuses(line + " --num_trajectories=0", place, run_warm, refused)
    assert "has 1 trajectories" in message and "at least 3" in message, message


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.float16, np.float64])
def test_numbers_of_other_types_are_taken_for_what_they_are(dtype, place, tmp_path):
    name = "room" if np.issubdtype(dtype, np.integer) else "position"
    path = damaged_copy(place, tmp_path, changed(f"values/{name}", lambda x: x.astype(dtype)))
    loaded, whole = Trajectories.load(path), Trajectories.load(str(place / "toy.npz"))
    assert loaded.values[name].dtype == whole.values[name].dtype
    np.testing.assert_array_equal(loaded.values[name], whole.values[name].astype(dtype))


# ---- damaged files, each in many places ------------------------------------------------------------


def damaged(content, how, number):
    """The content cut off at, or with one bit flipped in, a place that the number decides."""
    draw = random.Random(number)
    at = draw.randrange(len(content))
    if how == "cut":
        return content[:at]
    return content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :]


def same_data(one, other):
    values = other.values.items()
    return one.factors == other.factors and all((one.values[k] == x).all() for k, x in values)


@pytest.mark.parametrize("how", ["cut", "flipped"])
def test_no_damage_to_a_file_goes_unnoticed(how, place, tmp_path):
    """A flipped bit is refused, or it is where nothing is stored: what is loaded is the same."""
    cases = [
        (place / "run" / "best.pt", checkpoint.read, same),
        (place / "toy.npz", lambda path: Trajectories.load(str(path)), same_data),
    ]
    for path, load, equal in cases:
        content, whole, noticed = path.read_bytes(), load(path), 0
        for number in range(60):
            bad = tmp_path / path.name
            bad.write_bytes(damaged(content, how, number))
            try:
                assert equal(load(bad), whole), f"damage {number} of {path.name} changed it"
            except ValueError as error:
                noticed += 1
                assert path.name in str(error) and "\n" not in str(error)
        assert noticed == 60 if how == "cut" else noticed > 40


COMMANDS = {  # the file that is damaged: what reads it
    "run/best.pt": [
        "evaluate.py --out_dir=broken",
        "sample.py --out_dir=broken",
        "rollout.py --out_dir=broken",
        "plot.py --figure=posterior --out_dir=broken",
    ],
    "run/ckpt.pt": [
        "train.py --out_dir=broken --init_from=resume",
        "train.py --init_from=finetune:broken/ckpt.pt",
    ],
    "toy.npz": [
        "train.py --dataset=broken/toy.npz --context=5",
        "worlds.py --file=broken/toy.npz",
    ],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_damaged_file_ends_every_command_in_one_line(name, place, tmp_path, run_warm, refused):
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in (place / "run").iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    content = (place / name).read_bytes()
    for number, line in enumerate(COMMANDS[name]):
        for cut in (content[: len(content) * (number + 1) // 6], damaged(content, "cut", number)):
            (broken / os.path.basename(name)).write_bytes(cut)
            assert "broken" in refuses(line, tmp_path, run_warm, refused)


def test_nothing_in_a_file_is_ever_executed(place):
    payload = place / "payload.pt"
    torch.save({"model_config": {}, "weights": Payload(place / "executed")}, payload)
    for load, path in (
        (checkpoint.load, payload),
        (checkpoint.load, place / "bomb"),
        (checkpoint.load, place / "bomb.pkl"),
        (Trajectories.load, place / "pickled.npz"),
    ):
        with pytest.raises(ValueError):
            load(str(path))
    payload.unlink()
    assert "executed" not in files(place)
