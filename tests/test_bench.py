"""bench.py: the real command writes every number, and the step that it times is train.py's own.

Nothing here asserts a time: a claim about speed belongs in bench.py, never in a test.
"""

import json
import math
import sys

import pytest
import torch
from test_maze2d import hide_d4rl

import bench
import checkpoint

TINY = {
    "n_embd": 16, "n_ff": 16, "n_head": 2, "batch_size": 8, "num_trajectories": 16,
    "warmup_iters": 0, "decay_lr": False,
}  # fmt: skip
QUICK = ["--repetitions=2", "--sequences=20", "--rollouts=3"]


@pytest.fixture
def tiny(monkeypatch):
    """The configurations, shrunk."""
    small = {name: settings | TINY for name, settings in bench.CONFIGURATIONS.items()}
    monkeypatch.setattr(bench, "CONFIGURATIONS", small)
    return small


def test_the_command_writes_every_number(run_warm, tmp_path):
    flags = [*QUICK, "--json=bench.json"]
    flags.append("--configurations=doorkey,maze2d_5")
    process = run_warm("bench.py", *flags, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    results = json.loads((tmp_path / "bench.json").read_text())
    for name in ("doorkey", "maze2d_5"):
        cost = results["steps"][name]
        assert {"step_ms", "gemm_ms", "data_ms", "masks_ms"} < cost.keys()
        assert all(math.isfinite(x) and x > 0 for x in cost.values())
        assert cost["times_limit"] == pytest.approx(cost["step_ms"] / cost["gemm_ms"])
        assert f"| {name} | " in process.stdout
    for name in ("20 questions a task", "3 episodes"):
        assert results["seconds"][name]["threads_1"] > 0
    assert results["torch"] == torch.__version__
    assert not list(tmp_path.glob("out*")), "what train.py writes goes into a temporary folder"


def test_seeds_at_once_are_measured(tiny, monkeypatch):
    monkeypatch.setattr(bench, "repetitions", 2)
    rows = bench.measure_seeds({"doorkey": tiny["doorkey"]})
    assert list(rows) == ["doorkey, 1 at once", "doorkey, 6 at once"]
    for number, row in zip((1, 6), rows.values()):
        rate = 1000 * number * TINY["batch_size"] / row["step_ms"]
        assert min(row["step_ms"], row["gemm_ms"]) > 0
        assert row["sequences_per_s"] == pytest.approx(rate)


def test_what_is_not_measured_is_not_there(run_warm, tmp_path):
    flags = ["--measure=", "--configurations=doorkey", "--json=bench.json"]
    process = run_warm("bench.py", *flags, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    results = json.loads((tmp_path / "bench.json").read_text())
    assert results.keys() == {"torch", "load"}


def test_the_steps_are_those_of_train(run_warm, tmp_path):
    settings = bench.CONFIGURATIONS["doorkey"] | TINY
    flags = settings | {"max_iters": 3, "eval_tasks": "past", "eval_sequences": 1}
    flags = [f"--{key}={value}" for key, value in flags.items()]
    process = run_warm("train.py", *flags, "--out_dir=run", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    trained = checkpoint.read(str(tmp_path / "run" / "ckpt.pt"))["weights"]
    run = bench.training(settings)
    bench.steps(run, 3)
    for name, weight in run.network.state_dict().items():
        assert torch.equal(weight, trained[name]), name
    assert "pytest" in sys.argv[0] or sys.argv[0].endswith("-c"), "the command line is as it was"


def test_linear_products_are_all_of_the_models():
    network = bench.training(bench.CONFIGURATIONS["doorkey"] | TINY).network
    multiplied = [tuple(out.shape) for out in bench.linear_products(network, 30)()]
    of_several = [tuple(out.shape) for out in bench.linear_products(network, 6, 30)()]
    assert of_several == [(6, *shape) for shape in multiplied]
    layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.Linear)]
    assert len(multiplied) == 3 * len(layers) - 1  # nobody needs the gradient of the data
    for layer in layers:
        assert (30, layer.out_features) in multiplied
        assert (layer.out_features, layer.in_features) in multiplied


@pytest.mark.parametrize(
    "flag, words",
    [
        ("--repetitions=0", "repetitions=0 must be a number of at least 1"),
        ("--measure=speed", "measure='speed' is not one of steps"),
        ("--configurations=maze", "configurations='maze' is not one of doorkey"),
        ("--json=train.py", "ends in .json"),
        ("--rolouts=3", "did you mean 'rollouts'"),
    ],
)
def test_refusals(run_warm, refused, tmp_path, flag, words):
    assert words in refused(run_warm("bench.py", flag, cwd=tmp_path))


def test_without_d4rl_it_says_so_before_anything_is_measured(run_warm, refused, tmp_path):
    message = refused(run_warm("bench.py", *QUICK, cwd=tmp_path, inside=hide_d4rl))
    assert "requirements-maze.txt" in message
