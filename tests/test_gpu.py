"""On a GPU: a recorded step is the step, and trains what a CPU does.

    CUDA_VISIBLE_DEVICES=0 python -m pytest tests/test_gpu.py

The other tests see no GPU (conftest.py). They run commands in forks of their process, in which
PyTorch cannot train once it has begun to with a GPU at hand.
"""

import pytest
import torch
from runs import at_once

import bench
import train_seeds

how = "needs a GPU, and CUDA_VISIBLE_DEVICES=0"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason=how)


@pytest.mark.parametrize("name", ["doorkey", "maze2d_5"])
def test_a_recorded_step_is_the_step(name, tmp_path):
    settings = bench.CONFIGURATIONS[name] | {"device": "cuda", "out_dir": f"{tmp_path}/{{seed}}"}
    recorded, taken = at_once(settings), at_once(settings)
    taken.on_gpu = lambda: False  # it never records
    for it in range(20):
        recorded.step(it)
        taken.step(it)
    assert recorded.graphs and not taken.graphs
    for one, other in zip(recorded.state["weights"], taken.state["weights"]):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["doorkey", "maze2d_5"])
def test_a_gpu_trains_what_a_cpu_does(name, tmp_path):
    """A hundred steps on the same batches; the two draw different ones by themselves."""
    settings = bench.CONFIGURATIONS[name] | {"out_dir": f"{tmp_path}/{{seed}}"}
    cpu, gpu = at_once(settings), at_once(settings | {"device": "cuda"})
    torch.set_float32_matmul_precision("highest")
    gpu.on_gpu = lambda: False  # batches from elsewhere cannot be recorded
    move = lambda x: {k: v.cuda() for k, v in x.items()} if isinstance(x, dict) else x.cuda()
    for it in range(100):
        for one, other in zip(cpu.runs, gpu.runs):
            one.reseed(it)
            batch = one.windows.draw(one.batch_size, one.generator)
            drawn = (
                batch,
                *train_seeds.masks.draw(one.task, one.batch_size, one.context, one.generator),
            )
            one.get_batch = lambda it, drawn=drawn: drawn
            other.get_batch = lambda it, drawn=drawn: tuple(map(move, drawn))
        cpu.step(it)
        gpu.step(it)
    assert torch.allclose(cpu.loss_sum / 100, gpu.loss_sum.cpu() / 100, atol=1e-4)
