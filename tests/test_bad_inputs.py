"""Bad inputs to every command, each of which must end in one line on stderr, soon, and leave everything as it was.

Settings are misused in test_train.py, test_configurator.py and test_sample_command.py; here it is files, data and folders.
"""

import json
import pickle
import random
import resource
import shlex

import numpy as np
import pytest
import torch
from test_checkpoints import Payload
from test_train import same, snapshot

import data
import doorkey
import model as models
from data import Factor, Trajectories

TINY = (
    "--num_trajectories=20 --n_embd=16 --n_ff=16 --n_layer=1 --n_head=2 --batch_size=8 --max_iters=2 --eval_interval=2 "
    "--eval_sequences=20 --eval_tasks=past --threads=1"
).split()


def arrays_of(path):
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def changed(name, value):
    """A damage to a trajectory file: the array of this name is replaced, by what a function makes of it."""
    return lambda arrays: arrays.update({name: value(arrays[name])})


def header(**changes):
    """A damage to a trajectory file's header: of its first factor, or of the whole where it has such a key."""

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


DATA = {  # what is wrong with a trajectory file: how the good one (toy.npz) is damaged
    "a NaN": changed("values/position", put((0, 0, 0), np.nan)),
    "an infinity": changed("values/action", put((23, 3, 1), -np.inf)),
    "a number that no float32 holds": changed("values/position", lambda x: x.astype(np.float64) * 1e300),
    "complex numbers": changed("values/position", lambda x: x * 1j),
    "dates": changed("values/room", lambda x: x.astype("datetime64[s]")),
    "a class out of range": changed("values/room", put((5, 5), 3)),
    "a class out of range of int64": changed("values/room", lambda x: x.astype(np.uint64) + np.uint64(2**63)),
    "fractions of classes": changed("values/room", lambda x: x / 2),
    "no trajectories": lambda arrays: [changed(name, lambda x: x[:0])(arrays) for name in arrays if name != "header"],
    "no timesteps": changed("values/room", lambda x: x[:, :0]),
    "one trajectory": lambda arrays: [changed(name, lambda x: x[:1])(arrays) for name in arrays if name != "header"],
    "an episode shorter than the context": changed("lengths", put(4, 3)),
    "lengths in fractions": changed("lengths", lambda x: x + 0.5),
    "lengths in a table": changed("lengths", lambda x: x[:, None]),
    "a single length": changed("lengths", lambda x: x[0]),
    "a transposed factor": changed("values/room", lambda x: x.T),
    "a factor of numbers of the wrong size": changed("values/action", lambda x: x[..., :1]),
    "no header": lambda arrays: arrays.pop("header"),
    "a header that is a list": changed("header", lambda x: np.array("[]")),
    "a header without factors": header(factors=[]),
    "factors that are no list": header(factors="position"),
    "a header of another encoding": changed("header", lambda x: np.frombuffer(b"\xff\xfe{}", np.uint8)),
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
    "nothing to predict": lambda arrays: header(
        factors=[{"name": "room", "group": "RETURN", "kind": "categorical", "size": 3}]
    )(arrays),
}

LINES = {  # command: words that its one line must hold; it runs in the folder `place`, which is HERE where that must be said
    "train.py --dataset=toy.npz --context=11": ["context", "11", "10"],
    "train.py --dataset=long.npz --context=5 --positions=timestep": ["timestep", "1000"],
    "train.py --dataset=replaced.npz --init_from=resume --out_dir=before": ["factors", "replaced.npz"],
    "train.py --dataset=folder.npz": ["folder.npz"],
    "train.py --dataset=pickled.npz": ["pickled.npz"],
    "train.py --init_from=resume --out_dir=bomb": ["bomb"],
    "train.py --init_from=finetune:bomb.pkl": ["bomb.pkl"],
    "train.py --init_from=finetune:folder.npz": ["checkpoint"],
    "train.py --init_from=finetune:a_file.txt": ["a_file.txt"],
    "train.py --out_dir=/proc/run": ["/proc/run"],
    "train.py --out_dir=a_file.txt/run": ["a_file.txt"],
    "train.py --out_dir=": ["out_dir"],
    "train.py --seed=99999999999999999999": ["seed"],
    "train.py --data_seed=99999999999999999999": ["seed"],
    "train.py --threads=99999999999999": ["threads"],
    "train.py --state_weight=nan": ["state_weight"],
    "train.py --action_weight=-1": ["action_weight"],
    "train.py --learning_rate=inf": ["learning_rate"],
    "train.py --dropout=1": ["dropout"],
    "train.py --ema=1": ["ema"],
    "train.py --octaves=-1": ["octaves"],
    "train.py --device=tpu": ["device", "tpu"],
    "train.py --device=cuda:99": ["device", "cuda:99"],
    "train.py --task=span(0,99)": ["span(0,99)"],
    "train.py --task=span(5,5)": ["span(5,5)"],
    "train.py --eval_tasks=span(0,99)": ["span(0,99)"],
    "train.py config/../folder.npz": ["folder.npz"],
    "train.py syntax.py": ["syntax.py", "line 2"],
    "train.py null.py": ["null.py"],
    "train.py deep.py": ["deep.py"],
    "evaluate.py --out_dir=bomb": ["bomb"],
    "evaluate.py --out_dir=other_world": ["factors", "doorkey16"],
    "evaluate.py --out_dir=no_config": ["config.json"],
    "evaluate.py --out_dir=list_config": ["config.json"],
    "evaluate.py --out_dir=short_config": ["config.json"],
    "evaluate.py --out_dir=bytes_config": ["config.json"],
    "evaluate.py --out_dir=a_file.txt": ["a_file.txt"],
    "evaluate.py --out_dir=/proc": ["/proc"],
    "evaluate.py --out_dir=run --device=tpu": ["tpu"],
    "evaluate.py --out_dir=run --seed=99999999999999999999": ["seed"],
    "evaluate.py --out_dir=run --rollouts=2 --modes=cc": ["cc", "bc_states"],
    "evaluate.py --out_dir=run --rollouts=-1": ["rollouts"],
    "evaluate.py --out_dir=nowhere --rollouts=2": ["world"],
    "evaluate.py --out_dir=run --tasks=past,": ["task"],
    "evaluate.py --out_dir=run --tasks=span(0,99)": ["span(0,99)"],
    "sample.py --out_dir=bomb": ["bomb"],
    "sample.py --out_dir=other_world": ["factors", "doorkey16"],
    "sample.py --out_dir=run --see=state[0": ["the end", "]"],
    "sample.py --out_dir=run --see=state[١٢٣٤]": ["outside"],
    "sample.py --out_dir=run --set=action[0]=1e400": ["action"],
    "sample.py --out_dir=nowhere --set=position[0]=(1e400,0)": ["character 13"],
    "sample.py --out_dir=run --seed=99999999999999999999": ["seed"],
    "evaluate.py --out_dir=run --seed=-1": ["seed", "-1"],
    "sample.py --out_dir=run --seed=-1": ["seed", "-1"],
    "sample.py --out_dir=run --device=tpu": ["tpu"],
    "sample.py --out_dir=run --temperature=nan": ["temperature"],
    "sample.py --out_dir=run --picture=a_file.txt/a.png": ["a_file.txt"],
    "sample.py --out_dir=run --picture=/proc/a.png": ["/proc"],
    "sample.py --out_dir=run --horizon=-1 --world --see=state[0]": ["horizon"],
    "sample.py --out_dir=nowhere --world --see=state[0]": ["world"],
    "sample.py --out_dir=nowhere --exact": ["exact"],
    "data.py make doorkey --n=0 --out=new.npz": ["0"],
    "data.py make doorkey --n=-3 --out=new.npz": ["-3"],
    "data.py make doorkey --n=3 --seed=-1 --out=new.npz": ["seed", "-1"],
    "data.py make doorkey --n=3 --out=a_file.txt/new.npz": ["a_file.txt"],
    "data.py make doorkey --n=3 --out=/proc/new.npz": ["/proc"],
    "data.py make doorkey --n=3 --out=missing/new.npz": ["missing"],
    "data.py info folder.npz": ["folder.npz"],
    "data.py info a_file.txt": ["a_file.txt"],
    "plot.py curves": ["usage"],
    "plot.py scatter run": ["usage"],
    "plot.py curves missing": ["missing"],
    "plot.py curves bad_log": ["log.csv"],
    "plot.py curves empty_log": ["log.csv"],
    "plot.py curves binary_log": ["log.csv"],
    "plot.py curves run missing": ["missing"],
    "plot.py posterior nowhere": ["posterior"],
    "plot.py posterior bomb": ["bomb"],
    "repro/job.py": ["--result"],
    "repro/job.py --result=a.txt": [".json"],
    "repro/job.py --result=HERE/a.json --sequences=x": ["sequences"],
    "repro/job.py --result=HERE/a.json missing.py": ["missing.py"],
    "repro/job.py --result=HERE/a.json --out_dir=HERE/a_file.txt/run": ["a_file.txt"],
    "repro/job.py --result=HERE/a.json --out_dir=/proc/run": ["/proc"],
}


@pytest.fixture(scope="module")
def place(run_warm, toy_data, tmp_path_factory):
    """A folder of good runs and of bad files."""
    here = tmp_path_factory.mktemp("place")
    toy_data.save(here / "toy.npz")
    toy_data.save(here / "replaced.npz")
    for name, dataset in (("run", "doorkey"), ("nowhere", "toy.npz"), ("before", "replaced.npz")):
        process = run_warm("train.py", *TINY, f"--dataset={dataset}", f"--out_dir={name}", cwd=here)
        assert process.returncode == 0, process.stderr
    doorkey.make_dataset(40, seed=0).save(here / "replaced.npz")
    long = [Factor("position", "STATE", "continuous", 1), Factor("action", "ACTION", "categorical", 2)]
    values = {"position": np.zeros((30, 1100, 1), np.float32), "action": np.zeros((30, 1100), np.int64)}
    Trajectories(long, values).save(here / "long.npz")
    np.savez(here / "pickled.npz", header=np.array(Payload(here / "executed"), dtype=object))
    (here / "folder.npz").mkdir()
    (here / "a_file.txt").write_text("no more than a file\n")
    (here / "syntax.py").write_text("seed = 1\ntask = = 2\n")
    (here / "null.py").write_bytes(b"seed = 1\0")
    (here / "deep.py").write_text("seed = " + "(" * 5000 + "1" + ")" * 5000)
    (here / "bomb.pkl").write_bytes(pickle.dumps({"model_config": Payload(here / "executed")}))
    config = json.loads((here / "run" / "config.json").read_text())
    copies = {  # folder: its config.json
        "bomb": json.dumps(config),
        "other_world": json.dumps(config | {"dataset": "doorkey16"}),
        "no_config": None,
        "list_config": "[1]",
        "short_config": "{}",
        "bytes_config": b"\xff\xfe",
    }
    for name, text in copies.items():
        (here / name).mkdir()
        for part in ("best.pt", "ckpt.pt"):
            (here / name / part).write_bytes((here / "run" / part).read_bytes())
        if text is not None:
            (here / name / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    for part in ("best.pt", "ckpt.pt"):
        torch.save({"model_config": {}, "weights": Payload(here / "executed")}, here / "bomb" / part)
    for name, content in (("bad_log", b"iter,past\n0,fast\n"), ("empty_log", b""), ("binary_log", b"\xff\xfe\0\n\0")):
        (here / name).mkdir()
        (here / name / "log.csv").write_bytes(content)
    return here


def refuses(line, place, run_warm, refused):
    """Run a command that must be refused within ten seconds, and change nothing; returns its one line."""
    script, *flags = shlex.split(line.replace("HERE", str(place)))
    given = {flag.split("=")[0] for flag in flags}
    defaults = [*TINY, "--out_dir=new"] if script == "train.py" else []
    before = snapshot(place)
    limit = lambda: resource.setrlimit(resource.RLIMIT_CPU, (10, 10))  # seconds of work, however busy the machine is
    process = run_warm(script, *(x for x in defaults if x.split("=")[0] not in given), *flags, cwd=place, inside=limit)
    message = refused(process)
    assert snapshot(place) == before, "a refused command wrote something"
    return message


@pytest.mark.parametrize("line", LINES)
def test_bad_input_ends_in_one_line_and_changes_nothing(line, place, run_warm, refused):
    message = refuses(line, place, run_warm, refused)
    assert all(word in message for word in LINES[line]), message


@pytest.mark.parametrize("damage", DATA)
def test_bad_data_ends_in_one_line_and_changes_nothing(damage, place, run_warm, refused):
    arrays = arrays_of(place / "toy.npz")
    DATA[damage](arrays)
    np.savez(place / "bad.npz", **arrays)
    message = refuses("train.py --dataset=bad.npz --context=5", place, run_warm, refused)
    if damage == "an episode shorter than the context":
        assert "context=5" in message
    elif damage == "one trajectory":
        assert "1 trajectories" in message and "bad.npz" in message
    else:  # no trajectories at all, and no command takes them
        assert "bad.npz" in message and "bad.npz" in refuses("data.py info bad.npz", place, run_warm, refused)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint8, np.uint16, np.float16, np.float64])
def test_numbers_of_other_types_are_taken_for_what_they_are(dtype, place, run_warm):
    arrays = arrays_of(place / "toy.npz")
    name = "values/room" if np.issubdtype(dtype, np.integer) else "values/position"
    changed(name, lambda x: x.astype(dtype))(arrays)
    np.savez(place / "other_type.npz", **arrays)
    process = run_warm("train.py", *TINY, "--dataset=other_type.npz", "--context=5", "--out_dir=typed", cwd=place)
    assert process.returncode == 0, process.stderr


# ---- damaged files: 20 places each -----------------------------------------------------------------------------------


def damaged(content, how, number):
    """The content cut off at, or with one bit flipped in, a place that the number decides."""
    draw = random.Random(number)
    at = draw.randrange(len(content))
    if how == "cut":
        return content[:at]
    return content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :]


def same_data(one, other):
    return one.factors == other.factors and all((one.values[k] == x).all() for k, x in other.values.items())


@pytest.mark.parametrize("how", ["cut", "flipped"])
def test_no_damage_to_a_file_goes_unnoticed(how, place, tmp_path):
    """A flipped bit is refused, or it is where nothing is stored (padding, dates) and all that is loaded is the same."""
    cases = [
        (place / "run" / "best.pt", models.load_checkpoint, same),
        (place / "toy.npz", Trajectories.load, same_data),
    ]
    for path, load, equal in cases:
        content, whole, noticed = path.read_bytes(), load(path), 0
        for number in range(60):
            bad = tmp_path / path.name
            bad.write_bytes(damaged(content, how, number))
            try:
                assert equal(load(bad), whole), f"damage {number} of {path.name} changed what it holds"
            except ValueError as error:
                noticed += 1
                assert path.name in str(error) and "\n" not in str(error)
        assert noticed == 60 if how == "cut" else noticed > 40


@pytest.mark.parametrize("number", range(20))
@pytest.mark.parametrize("how", ["cut", "flipped"])
def test_a_damaged_file_ends_a_command_in_one_line(how, number, place, run_warm, refused):
    """Every file with each command that reads it, in turns."""
    commands = {
        "run/best.pt": ("evaluate.py --out_dir=broken", "sample.py --out_dir=broken", "plot.py posterior broken"),
        "run/ckpt.pt": ("train.py --out_dir=broken --init_from=resume", "train.py --init_from=finetune:broken/ckpt.pt"),
        "toy.npz": ("train.py --dataset=broken/toy.npz --context=5", "data.py info broken/toy.npz"),
    }
    broken = place / "broken"
    broken.mkdir(exist_ok=True)
    name, lines = list(commands.items())[number % 3]
    for path in (place / "run").iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    content = (place / name).read_bytes()
    part = broken / (place / name).name
    part.write_bytes(damaged(content, how, number))
    try:
        data.Trajectories.load(part) if part.suffix == ".npz" else models.load_checkpoint(part)
    except ValueError:
        assert "broken" in refuses(lines[number // 3 % len(lines)], place, run_warm, refused)
    else:
        assert how == "flipped"  # harmless: the test above


def test_no_payload_was_executed(place):
    assert not (place / "executed").exists()
