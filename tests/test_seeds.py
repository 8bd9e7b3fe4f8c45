"""Several seeds in one step train what single runs do, and leave what those leave."""

import signal
from dataclasses import replace

import pytest
import torch
from runs import LEFT, TINY, at_once, files, furthest, good, interrupt_at_step, read_log, saved

import bench
import model
import train_seeds

SETTINGS = {  # of what a step does: each in some way
    "random masks": ["--task=random"],
    "a mixture, and an average": ["--task=random+all", "--ema=0.9", "--batch_size=40"],
    "factors hidden": ["--factor_hiding=0.3", "--grad_clip=0", "--weight_decay=0.5"],
    "by turns": ["--task=past+behavior_cloning", "--by_turns=True"],
    "decision-gpt": ["--model_type=dt", "--task=dt_rc", "--positions=learned", "--norm=post"],
    "feed-forward": ["--model_type=nn", "--task=behavior_cloning"],
    "padding": ["--dataset=toy.npz", "--context=12", "--task=behavior_cloning"],
    "numbers": [
        "--dataset=toy.npz",
        "--head=gaussian",
        "--differences=True",
        "--fourier_features=2",
    ],
}
FEW = ["--dropout=0", "--max_iters=8", "--eval_interval=4", "--learning_rate=5e-4"]


@pytest.mark.parametrize("name", SETTINGS)
def test_several_seeds_at_once_end_with_the_weights_of_single_runs(
    name, run_warm, toy_data, tmp_path
):
    toy_data.save(tmp_path / "toy.npz")
    flags = [*TINY, *FEW, *SETTINGS[name]]
    good(run_warm("train_seeds.py", *flags, "--seeds=3,5", "--out_dir=all_{seed}", cwd=tmp_path))
    for seed in (3, 5):
        good(run_warm("train.py", *flags, f"--seed={seed}", f"--out_dir={seed}", cwd=tmp_path))
        together, alone = tmp_path / f"all_{seed}", tmp_path / str(seed)
        assert files(together) == LEFT
        assert furthest(together, alone) < 1e-4
        ours, theirs = saved(together), saved(alone)
        for key in ("exp_avg", "exp_avg_sq", "step"):
            for number, state in theirs["optimizer"]["state"].items():
                close = ours["optimizer"]["state"][number][key] - state[key]
                assert close.abs().max() < 1e-4, (number, key)
        assert ours["loss_count"] == theirs["loss_count"] and ours["iter"] == theirs["iter"]
        for one, other in zip(read_log(together), read_log(alone)):
            for column, text in other.items():
                if text:
                    assert float(one[column]) == pytest.approx(float(text), abs=1e-3), column


def test_several_seeds_at_once_take_the_steps_of_the_optimiser_of_one(
    toy_data, tmp_path, monkeypatch
):
    toy_data.save(tmp_path / "toy.npz")
    ours, monkey = model.configure_optimizer, monkeypatch.setattr
    settings = {"dataset": str(tmp_path / "toy.npz"), "num_trajectories": 10, "n_embd": 16}
    settings |= {"n_head": 2, "n_layer": 1, "out_dir": str(tmp_path / "run_{seed}")}

    def other(*args):
        optimizer = ours(*args)
        for group in optimizer.param_groups:
            group["betas"], group["eps"] = (0.5, 0.7), 1e-3
        return optimizer

    monkey(model, "configure_optimizer", other)
    together = at_once(settings)
    alone = train_seeds.set_up(
        bench.flags(settings | {"dropout": 0.0, "out_dir": f"{tmp_path}/one"})
    )
    alone.optimizer.zero_grad()
    for it in range(3):
        together.step(it)
        alone.train_step(it)
    weights = together.split([x[0] for x in together.state["weights"]])
    for name, p in alone.network.named_parameters():
        torch.testing.assert_close(weights[name], p.detach(), rtol=0, atol=1e-5)
    monkey(model, "configure_optimizer", lambda network, *_: torch.optim.SGD(network.parameters()))
    with pytest.raises(ValueError, match="AdamW alone"):
        at_once(settings)


def test_seeds_differ_and_a_folder_is_named_after_its_seed(run_warm, tmp_path):
    good(run_warm("train_seeds.py", *TINY, "--seeds=0,1", "--max_iters=2", cwd=tmp_path))
    one, other = (saved(tmp_path / "out" / f"run_s{seed}") for seed in (0, 1))
    assert one["config"]["seed"] == 0 and other["config"]["seed"] == 1
    weights = [key for key, x in one["weights"].items() if x.dim() == 2]
    assert all((one["weights"][key] != other["weights"][key]).any() for key in weights)


def test_seeds_that_were_stopped_go_on_to_where_they_would_have_been(run_warm, tmp_path):
    flags = [*TINY, "--dropout=0", "--ema=0.9", "--seeds=0,1"]
    good(run_warm("train_seeds.py", *flags, "--out_dir=whole_{seed}", cwd=tmp_path))
    stop = lambda: interrupt_together_at(19)
    stopped = run_warm("train_seeds.py", *flags, "--out_dir=cut_{seed}", cwd=tmp_path, inside=stop)
    assert stopped.returncode == 130 and "stopped at step 19 and saved" in stopped.stderr
    # a kill may come between two saves: this one is behind, and catches up
    alone = [*flags[:-1], "--seed=1", "--out_dir=cut_1", "--overwrite=True"]
    early = run_warm("train.py", *alone, cwd=tmp_path, inside=lambda: interrupt_at_step(12))
    assert early.returncode == 130 and saved(tmp_path / "cut_1")["iter"] == 12
    again = [*flags, "--out_dir=cut_{seed}", "--init_from=resume"]
    good(run_warm("train_seeds.py", *again, cwd=tmp_path))
    for seed in (0, 1):
        assert furthest(tmp_path / f"whole_{seed}", tmp_path / f"cut_{seed}") < 1e-5
        rows = [read_log(tmp_path / f"{name}_{seed}") for name in ("whole", "cut")]
        assert [row["iter"] for row in rows[0]] == [row["iter"] for row in rows[1]]
    done = good(run_warm("train_seeds.py", *again, cwd=tmp_path))
    assert done.stdout.count("is already at step 30") == 2


def interrupt_together_at(number):
    """In the process that calls it: Ctrl-C during the given step of several seeds, from 1."""
    gradients = torch.autograd.grad

    def counted(*args):
        nonlocal number
        number -= 1
        if number == 0:
            signal.raise_signal(signal.SIGINT)
        return gradients(*args)

    torch.autograd.grad = counted


@pytest.mark.parametrize(("flags", "reason"), [
    (["--seeds=0,x"], "are not different numbers with commas"),
    (["--seeds=3,03"], "are not different numbers with commas"),
    (["--lerning_rate=1"], "did you mean 'learning_rate'"),
    (["--seeds=0", "--wandb_log=True"], "without wandb_log"),
    (["--seeds=1,2", "--learning_rate=0.00{seed}"], "several seeds at once differ in learning_rate"),
    (["--seeds=1,2", "--dataset=f{seed}.npz", "--context=4"], "differ in the scale of their data"),
])  # fmt: skip
def test_a_mistake_is_one_line_and_nothing_is_written(flags, reason, run_warm, toy_data, tmp_path):
    plain = [replace(f, mean=(), std=(), step_std=()) for f in toy_data.factors]
    for scale in (1, 2):
        values = toy_data.values | {"position": scale * toy_data.values["position"]}
        replace(toy_data, factors=plain, values=values).save(tmp_path / f"f{scale}.npz")
    process = run_warm("train_seeds.py", *TINY, *flags, cwd=tmp_path)
    assert process.returncode == 1 and files(tmp_path) == {"f1.npz", "f2.npz"}
    assert reason in process.stderr and process.stderr.count("\n") == 1


def test_what_a_step_draws_needs_no_number_from_the_device(tmp_path):
    """A single one would be waited for: no tensor becomes a Python number in a step."""
    settings = bench.CONFIGURATIONS["doorkey"] | {
        "out_dir": f"{tmp_path}/{{seed}}",
        "task": "random+all",
    }
    together = at_once(settings | {"n_embd": 16, "n_ff": 16})
    together.step(0)
    with pytest.MonkeyPatch.context() as patch:

        def refuse(self, *_):
            raise AssertionError("a tensor became a number")

        for name in (
            "item",
            "tolist",
            "__int__",
            "__float__",
            "__bool__",
            "__index__",
            "cpu",
            "numpy",
        ):
            patch.setattr(torch.Tensor, name, refuse)
        together.step(1)
