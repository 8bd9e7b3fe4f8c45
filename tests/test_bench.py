"""bench.py: the real command writes every number, and the step that it times is the step that train.py takes."""

import importlib.util
import json
import math
import sys

import pytest
import torch

import bench
from model import load_checkpoint

TINY = ["--repetitions=3", "--rounds=1", "--sequences=20", "--rollouts=3", "--cores=1", "--json=bench.json"]
STEP_KEYS = ["step_ms", "gemm_ms", "bmm_ms", "times_limit", *(f"{part}_ms" for part in bench.PARTS)]


def numbers(tree):
    """All numbers of nested dictionaries and lists, by their path."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else None
    if items is None:
        return {"": tree} if isinstance(tree, (int, float)) else {}
    return {f"{key}/{path}": x for key, value in items for path, x in numbers(value).items()}


def finished(process, folder):
    """The JSON of a command that ended well, with finite positive numbers only."""
    assert process.returncode == 0, process.stderr
    results = json.loads((folder / "bench.json").read_text())
    found = numbers({key: value for key, value in results.items() if key != "load"})
    assert found and all(math.isfinite(x) and x > 0 for x in found.values()), found
    return results


def test_steps_validation_and_rollouts(run_warm, tmp_path):
    process = run_warm("bench.py", *TINY, "--measure=steps,validation,rollout", cwd=tmp_path)
    results = finished(process, tmp_path)
    assert {*bench.CONFIGURATIONS, "rollout_1000_s", "validation_s", "threads", "torch", "cpu"} < set(results)
    maze = importlib.util.find_spec("d4rl") is not None
    for name in bench.CONFIGURATIONS if maze else ["doorkey"]:
        cost = results[name]
        assert set(STEP_KEYS) <= set(cost)
        assert cost["times_limit"] == pytest.approx(cost["step_ms"] / cost["gemm_ms"])
        parts = sum(cost[f"{part}_ms"] for part in bench.PARTS)  # sums of medians are not medians of sums, but near
        assert parts == pytest.approx(cost["step_ms"], rel=0.5)
        assert f"| {name.replace('_', ' ')} | " in process.stdout
    assert results["validation"]["losses_threads_1_s"] == results["validation_s"]
    if maze:
        split = results["rollout"]["threads_1"]
        assert split["total_s"] == pytest.approx(split["model_s"] + split["physics_s"] + split["rest_s"])
        assert results["rollout_1000_s"] == split["total_s"]


def test_without_d4rl_the_maze_is_left_out(run_warm, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "d4rl", None)  # as if it were not installed; run_warm's commands inherit it
    process = run_warm("bench.py", *TINY, "--measure=steps,rollout", cwd=tmp_path)
    results = finished(process, tmp_path)
    assert "without d4rl" in process.stdout and results["doorkey"]["step_ms"]
    assert results["maze2d_5"] is results["maze2d_10"] is results["rollout_1000_s"] is None


def test_memory_and_throughput_in_other_processes(run, tmp_path):
    process = run("bench.py", *TINY, "--measure=memory,throughput", "--configurations=doorkey", cwd=tmp_path)
    results = finished(process, tmp_path)
    assert 50 < results["doorkey"]["peak_mb"] < 5000
    rates = results["throughput"]
    assert rates["threads_1"]["ratio"] == 1 and "processes_2" in rates
    assert results["maze2d_5"] is None and results["validation_s"] is None  # not measured


def test_profile_lies_beside_the_json(run_warm, tmp_path):
    (tmp_path / "sub").mkdir()
    flags = ["--measure=", "--configurations=doorkey", "--profile=True", "--json=sub/bench.json"]
    process = run_warm("bench.py", *flags, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "aten::addmm" in (tmp_path / "sub" / "profile.txt").read_text()


def test_the_step_is_that_of_train(run_warm, tmp_path):
    configuration = bench.CONFIGURATIONS["doorkey"] | {"n_embd": 32, "batch_size": 20}
    flags = [f"--{key}={value}" for key, value in configuration.items()]
    flags += ["--warmup_iters=0", "--decay_lr=False", "--max_iters=3", "--eval_tasks=past", "--eval_sequences=1"]
    process = run_warm("train.py", *flags, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    trained = load_checkpoint(str(tmp_path / "out" / "run" / "ckpt.pt"))["weights"]
    network, step = bench.trainer(configuration)
    for _ in range(3):
        assert list(step()) == list(bench.PARTS)
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, trained[name]), name


def test_linear_products_are_all_of_the_models(doorkey_data):
    configuration = bench.CONFIGURATIONS["doorkey"] | {"batch_size": 3}
    network, _ = bench.trainer(configuration, doorkey_data)
    products = bench.linear_products(network, configuration)()
    multiplied = {tuple(out.shape) for out in products}
    linear = [m for m in network.modules() if isinstance(m, torch.nn.Linear)]
    assert len(products) == 3 * len(linear) - 1  # nobody needs the gradient of the data
    for layer in linear:
        assert {(30, layer.out_features), (layer.out_features, layer.in_features)} <= multiplied
    assert len(bench.attention_products(configuration)()) == 6 * configuration["n_layer"]


def test_growth():
    small = bench.CONFIGURATIONS["doorkey"] | {"dropout": 0.0, "batch_size": 4, "n_embd": 32}
    rows = [bench.grow(1, 1, small | {"context": T}) for T in (4, 30)]
    assert [row["context"] for row in rows] == [4, 30] and {"n_embd", "batch_size", "peak_mb"} < set(rows[0])
    assert all(math.isfinite(x) and x > 0 for x in numbers(rows).values())


def test_attention_sentence_comes_from_the_table():
    rows = [{"context": T, "attention_share": share} for T, share in ((10, 0.1), (50, 0.3), (200, 0.6))]
    assert bench.attention_sentence(rows).endswith("10% at 10, 30% at 50, 60% at 200; more than half from 200 on.")
    assert bench.attention_sentence(rows[:2]).endswith("more than half at none of them.")


def test_attention_runs_alone():
    assert len(bench.attention(bench.CONFIGURATIONS["doorkey"] | {"batch_size": 2})()) == 2


def test_a_failing_compiler_is_said_in_one_line(monkeypatch, capsys):
    def broken(network):
        raise RuntimeError("no C++ compiler\nwas found")

    monkeypatch.setattr(torch, "compile", broken)
    results = {}
    bench.measure_compile(results, ["doorkey"])
    assert results["compile"]["doorkey"] == {"failed": "no C++ compiler was found"}
    assert "torch.compile fails on doorkey: no C++ compiler was found\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "flag, words",
    [
        ("--repetitions=0", "repetitions=0 must be at least 1"),
        ("--threads=-1", "threads=-1"),
        ("--measure=speed", "'speed', which is not one of steps"),
        ("--configurations=maze", "'maze', which is not one of doorkey"),
        ("--json=nowhere/bench.json", "nowhere/bench.json"),
        ("--json=.", "cannot be written"),
        ("--rolouts=3", "did you mean 'rollouts'"),
    ],
)
def test_refusals(run_warm, refused, tmp_path, flag, words):
    assert words in refused(run_warm("bench.py", flag, cwd=tmp_path))
