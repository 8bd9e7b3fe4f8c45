"""The four ways in which people change this code, done as they would, in a copy of it.

Each may touch only the files that are named: what else had to change would be a fault of the code.
"""

import json
import re
import shutil
import sys

import pytest
from conftest import ROOT
from runs import MODEL, good, read_log, saved

import masks
import traits

TINY = (
    MODEL
    + (
        "--num_trajectories=20 --batch_size=16 --max_iters=30 --eval_interval=6 --eval_sequences=40 "
        "--warmup_iters=0 --threads=1 --out_dir=run"
    ).split()
)
UNSTABLE = ["--learning_rate=0.1", "--grad_clip=0"]  # so that the best checkpoint is not the last
OWN = {path.stem for path in ROOT.glob("*.py")}


class Fork:
    """A copy of the code in a folder, to be edited, and its commands."""

    def __init__(self, folder, run_warm):
        self.folder, self.run_warm = folder, run_warm
        for path in ROOT.glob("*.py"):
            shutil.copy(path, folder)
        self.before = self.sources()
        shutil.copytree(ROOT / "config", folder / "config")

    def edit(self, name, pattern, text):
        """Put a text in the place of the one that a pattern (with groups) finds in a file."""
        before = (self.folder / name).read_text(encoding="utf-8")
        after, found = re.subn(pattern, text, before, flags=re.MULTILINE)
        assert found == 1, f"{name} has {found} places like {pattern!r}: this test must follow it"
        (self.folder / name).write_text(after, encoding="utf-8")

    def add(self, name, text):
        """Add a text before the last lines of a file, those that run it, or at its end."""
        before = (self.folder / name).read_text(encoding="utf-8")
        head, main, tail = before.partition('\nif __name__ == "__main__":\n')
        (self.folder / name).write_text(f"{head}\n{text}\n{main}{tail}", encoding="utf-8")

    def sources(self):
        return {path.name: path.read_bytes() for path in self.folder.glob("*.py")}

    def touched(self):
        """The names of the files that are new or edited."""
        now = self.sources()
        return {name for name in now if now[name] != self.before.get(name)}

    def run(self, script, *flags):
        """The finished process of a command of the copy, none of whose modules is loaded yet."""

        def forget():
            for name in OWN:
                sys.modules.pop(name, None)

        line = [self.folder / script, *flags]
        return good(self.run_warm(*line, cwd=self.folder, inside=forget))

    def train(self, *flags):
        self.run("train.py", *TINY, *flags)
        return read_log(self.folder / "run")

    def evaluate(self, *flags):
        self.run("evaluate.py", "--out_dir=run", "--sequences=40", *flags)
        return json.loads((self.folder / "run" / "eval.json").read_text())


@pytest.fixture
def fork(tmp_path, run_warm):
    return Fork(tmp_path, run_warm)


# ---- a mask ----------------------------------------------------------------------------------------

REFLEX = '''
def reflex(batch):
    """What to do, from the present state alone?"""
    now = batch.steps() == batch.index(0, batch.T - 1)[:, None]
    return batch.masks(now, False), batch.masks(False, now)


TASKS["reflex"] = reflex
'''


@pytest.mark.parametrize("kind", ["unimask", "dt"])
def test_a_mask_is_one_function_and_one_entry(kind, fork):
    """It trains both types of model, is evaluated, chooses the best checkpoint, and can be asked."""
    fork.add("masks.py", REFLEX)
    rows = fork.train(f"--model_type={kind}", "--task=reflex", *UNSTABLE)
    able = [task for task in masks.EIGHT if traits.can(kind, task)]
    assert {"reflex", *able} <= rows[0].keys()
    lowest = min(rows, key=lambda row: float(row["reflex"]))
    assert saved(fork.folder / "run", "best.pt")["iter"] == int(lowest["iter"])
    results = fork.evaluate()
    assert list(results) == [*able, "reflex"] and results["reflex"]["limit"] > 0
    text = fork.run("sample.py", "--out_dir=run", "--task=reflex", "--samples=3").stdout
    assert "3 joint samples" in text and "action[" in text and "agent_pos[" not in text
    assert "reflex" in fork.run("masks.py").stdout
    assert fork.touched() == {"masks.py"}


# ---- a world to play in ----------------------------------------------------------------------------

ECHO = '''
"""Echo: each step shows one of three signals, and earns 1 for repeating it."""

import numpy as np

import masks
from data import Factor, Trajectories

LENGTH = 8


def make_dataset(n, seed):
    """A demonstrator who is right in eight steps of ten."""
    rng = np.random.default_rng(seed)
    signal = rng.integers(3, size=(n, LENGTH))
    right = rng.random((n, LENGTH)) < 0.8
    action = np.where(right, signal, (signal + rng.integers(1, 3, size=(n, LENGTH))) % 3)
    return_to_go = (action == signal)[:, ::-1].cumsum(axis=1)[:, ::-1].copy()
    factors = [
        Factor("signal", "STATE", "categorical", 3),
        Factor("action", "ACTION", "categorical", 3),
        Factor("return_to_go", "RETURN", "categorical", LENGTH + 1),
    ]
    values = {"signal": signal, "action": action, "return_to_go": return_to_go}
    return Trajectories(factors, values, world="echo")


def surprisal(trajectories, see, returns):
    """{factor: (N, L) nats} of the truth under the exact posterior. Of returns, the first may show.

    A step of which either is hidden was right with probability 0.8; if the return is known, with
    that of the hits that are left over the steps that are left.
    """
    seen = {name: np.asarray(mask) for name, mask in masks.expand(see, trajectories.factors).items()}
    signal, action = trajectories.values["signal"], trajectories.values["action"]
    hit, whole = signal == action, seen["signal"] & seen["action"]  # (N, L)
    left = trajectories.values["return_to_go"][:, 0] - (hit & whole).sum(axis=1)
    share = left / np.maximum(1, (~whole).sum(axis=1))
    p = np.where(seen["return_to_go"][:, 0], share, 0.8)[:, None]  # (N, 1)
    with np.errstate(divide="ignore"):
        told = -np.log(np.where(hit, p, (1 - p) / 2))
    blind = np.log(3)
    return {
        "signal": np.where(seen["action"], told, blind),
        "action": np.where(seen["signal"], told, blind),
    }


class Echo:
    """n episodes in lockstep."""

    horizon, over = LENGTH, False

    def __init__(self, n, seed):
        self.n, self.rng = n, np.random.default_rng(seed)
        self.signal, self.hits = self.rng.integers(3, size=n), np.zeros(n)

    def start_at(self, values):
        self.signal = np.full(self.n, int(values["signal"]))

    def step(self, action):
        reward = (action == self.signal).astype(float)
        self.hits += reward
        self.signal = self.rng.integers(3, size=self.n)
        return reward

    def observe(self):
        return {"signal": self.signal}

    def report(self):
        return {"hits": self.hits}

    def encode_return(self, return_to_go, t):
        return np.clip(np.rint(return_to_go), 0, LENGTH).astype(np.int64)

    def start_features(self):
        return self.signal[:, None]

    def dataset_features(self, trajectories):
        return trajectories.values["signal"][:, :1]

    def dataset_returns(self, trajectories):
        return trajectories.values["return_to_go"][:, 0]
'''
ENTRY = """
WORLDS["echo"] = World(
    echo.make_dataset,
    total=400,
    validation=100,
    test=300,
    environment=echo.Echo,
    surprisal=echo.surprisal,
    tasks=("inverse_dynamics",),
)
"""


def test_a_world_to_play_in_is_its_own_file_and_one_entry(fork):
    (fork.folder / "echo.py").write_text(ECHO, encoding="utf-8")
    fork.edit("worlds.py", r"^import doorkey$", "import doorkey\nimport echo")
    fork.add("worlds.py", ENTRY)
    text = fork.run("worlds.py", "--world=echo", "--n=40", "--out=echo.npz").stdout
    assert "40 trajectories of 8 to 8 steps" in text
    flags = "--dataset=echo --context=8 --num_trajectories=0 --max_iters=250 --eval_interval=125 "
    flags += (
        "--learning_rate=1e-2 --task=all --eval_rollouts=20 --eval_modes=bc,rc --keep_best=return"
    )
    rows = fork.train(*flags.split())
    assert float(rows[-1]["return_bc"]) > float(rows[0]["return_bc"]) + 2
    results = fork.evaluate("--sequences=1500")  # it is measured against its own limit
    assert "inverse_dynamics" in results
    for task, row in results.items():
        assert row["limit"] > 0 and -4 * row["gap_se"] < row["gap"] < 0.3, (task, row["gap"])
    bc, rc = (results[task]["limit"] for task in ("behavior_cloning", "reward_conditioned"))
    assert bc == pytest.approx(0.639, abs=0.04) and rc < bc  # 0.8 log 1/0.8 + 0.2 log 1/0.1
    line = ["--out_dir=run", "--episodes=50", "--modes=bc,rc", "--target_return=8"]
    played = fork.run("rollout.py", *line).stdout.splitlines()
    assert len(played) == 2 and all("hits" in text for text in played)
    returns = [float(text.split("return ")[1].split()[0]) for text in played]
    assert min(returns) > 5  # the demonstrator earns 6.4, and chance 2.7
    flags = ["--given=signal[0]=2", "--world", "--samples=6"]
    assert "6 completions" in fork.run("sample.py", "--out_dir=run", *flags).stdout
    fork.run("train.py", *TINY, "--overwrite=True", "--dataset=echo", "--context=4", "--fresh")
    assert fork.touched() == {"echo.py", "worlds.py"}


# ---- a model ---------------------------------------------------------------------------------------

RECURRENT = '''
class Recurrent(nn.Module):
    """A bidirectional LSTM over the timesteps."""

    def __init__(self, config, factors):
        super().__init__()
        self.config, self.factors, self.units = config, factors, Units(factors)
        self.predicted = [f for f in factors if f.group != "RETURN"]
        self.features = Features(factors, config)
        lstm = {"batch_first": True, "bidirectional": True}
        self.lstm = nn.LSTM(self.features.width, config.n_embd, config.n_layer, **lstm)
        self.head = nn.Linear(2 * config.n_embd, sum(output_sizes(self.predicted, config)))

    def forward(self, values, see, at=None):
        x, _ = self.lstm(self.features(values, expand(see, self.factors)))  # (B, T, 2 d)
        return split_outputs(self.head(take(x, at)), self.predicted, self)


def build(config, factors):
    """A model with fresh weights from torch\'s default generator. config: ModelConfig."""
    if config.model_type == "recurrent":
        return Recurrent(config, factors)
'''


def test_a_model_is_a_class_in_one_file_and_one_setting(fork):
    fork.edit("model.py", r'("model_type": \([^)]*)\)', r'\1, "recurrent")')
    docstring = r'\n    """A model with fresh weights.*?"""'
    fork.edit("model.py", r"^def build\(config, factors\):" + docstring, RECURRENT.rstrip())
    flags = ["--model_type=recurrent", "--learning_rate=1e-2", "--max_iters=60"]
    rows = fork.train(*flags)
    assert float(rows[-1]["past"]) < float(rows[0]["past"]) - 0.5
    weights = saved(fork.folder / "run")["weights"]
    assert any("reverse" in name for name in weights)
    results = fork.evaluate()
    assert list(results) == [*masks.EIGHT, "random"]
    assert all(row["gap"] > 0 for task, row in results.items() if task in masks.EIGHT)
    fork.run("rollout.py", "--out_dir=run", "--episodes=3")
    text = fork.run("sample.py", "--out_dir=run", "--task=past", "--samples=3").stdout
    assert "3 joint samples, mean log-probability" in text
    assert fork.touched() == {"model.py"}


# ---- a head ----------------------------------------------------------------------------------------

LAPLACE = {  # a place in model.py: what is put there, where \1 is what was there
    r'("head": \([^)]*)\)': r'\1, "laplace")',
    r"^from torch.distributions import ": "from torch.distributions import Laplace, ",
    # the numbers that the network puts out
    r'^(    gaussian = config.head) == "gaussian"': r'\1 in ("gaussian", "laplace")',
    # what they mean
    r"^(        outputs\[f.name\] = outputs\[f.name\] \* std \+ mean\n)": r"""
        if config.head == "laplace":
            outputs[f.name], log_scale = outputs[f.name].split(f.size, dim=-1)
            outputs[f"{f.name}/log_scale"] = 7 * (log_scale / 7).tanh() + std.log()
\1""",
    # the loss
    r"^(        error = \(prediction - truth\) / std.*\n)": r"""\1
        if head == "laplace":
            log_scale = outputs[f"{f.name}/log_scale"].float() - std.log()
            error = error.abs() * (-log_scale).exp() + log_scale + math.log(2)
""",
    # the distribution to draw from
    r"^(    if log_variance is None:\n)": r"""
    if f"{f.name}/log_scale" in outputs:
        scale = temperature * outputs[f"{f.name}/log_scale"].double().exp()
        return Independent(Laplace(y, scale), 1)
\1""",
}
CHECK = """
import torch

import checkpoint, evaluate, model, rollout, worlds

network = checkpoint.load("run")
test = worlds.evaluation_set("toy.npz", 0, 0, "test")
asked = evaluate.questions(test, ["past"], 30, 5, evaluate.seed)
values, see, predict = asked["past"]
outputs = evaluate.answer(network, values, see)
[row] = evaluate.losses(network, asked).values()
for f in (f for f in network.predicted if f.kind == "continuous"):
    distribution = model.distribution(f, outputs)
    assert type(distribution.base_dist).__name__ == "Laplace"
    # the loss is the likelihood of what is drawn, per dimension, in units of the states' spread
    nats = -distribution.base_dist.log_prob(values[f.name]) - torch.tensor(f.std).log()
    mask = predict[..., ("STATE", "ACTION").index(f.group)]
    loss = row["factors"][f.name]["loss"]
    assert abs(nats.mean(-1)[mask].mean() - loss) < 1e-4, (f.name, loss)
    one = {name: y[:1, :1].expand(20000, -1, -1) for name, y in outputs.items()}
    drawn = rollout.draw(f, one, 1.0, torch.Generator().manual_seed(0))  # (20000, 1, k)
    off = (drawn - one[f.name]).abs().mean(0)
    scale = one[f.name + "/log_scale"].exp()[0]
    assert torch.allclose(off, scale, rtol=0.05), (f.name, off, scale)
"""


def test_a_head_is_a_change_of_one_section_of_one_file(fork, toy_data):
    """Laplace: a median with a scale, whose loss is a likelihood, and which can be drawn from."""
    for pattern, text in LAPLACE.items():
        fork.edit("model.py", pattern, text)
    toy_data.save(fork.folder / "toy.npz")
    flags = "--dataset=toy.npz --num_trajectories=0 --context=5 --head=laplace --learning_rate=1e-2"
    rows = fork.train(*flags.split())
    assert float(rows[-1]["past"]) < float(rows[0]["past"])
    assert fork.evaluate()["past"]["loss"] > 0
    text = fork.run("sample.py", "--out_dir=run", "--task=past", "--samples=3").stdout
    assert "3 joint samples, mean log-probability" in text
    (fork.folder / "check.py").write_text(CHECK, encoding="utf-8")
    fork.run("check.py")
    (fork.folder / "check.py").unlink()
    assert fork.touched() == {"model.py"}
