"""Train several seeds at once, all of them in every step: what fills a GPU.

    python train_seeds.py config/minigrid_random.py --seeds=0,1,2,3,4,5 --device=cuda

A model of this size leaves a GPU idle: it waits for the next small kernel to be launched. So here
the weights of all seeds stand side by side in one tensor (S, P), torch.vmap makes one network of S,
and a whole step (windows, masks, forward, backward, AdamW) is recorded once as a CUDA graph and
then replayed, without a word between GPU and CPU.

The runs are train.py's own, one for each seed, set up as it sets them up. They see the same
batches, are evaluated and saved in the same way, and end with the same weights, to rounding; only
the entries that dropout drops are others. All settings but `seeds` are those of train.py. A
{seed} in a flag, or in the out_dir of a config file, stands for the number. A model of your own has
to be one that torch.vmap can take. Before this: train.py.
"""

import configurator  # first of all: from here on Ctrl-C ends in one line, without a traceback

import contextlib
import importlib.util
import os
import sys

import torch
from torch.func import functional_call
from tqdm import tqdm

import checkpoint
import model
import traits

# ---- settings ------------------------------------------------------------------------------------
seeds = "0,1,2,3,4,5"  # one run each
# --------------------------------------------------------------------------------------------------

# In what runs may differ, all else is shared.
OWN = ("seed", "out_dir", "init_from", "dataset", "dreams", "data_seed", "num_trajectories")
TRAIN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "train.py")


def set_up(arguments):
    """train.py as a module, run with these arguments up to its loop: train_step, network, ..."""
    spec = importlib.util.spec_from_file_location("train", TRAIN)
    run, argv = importlib.util.module_from_spec(spec), sys.argv
    try:
        sys.argv = [TRAIN, *arguments]
        spec.loader.exec_module(run)
    finally:
        sys.argv = argv
    return run


class Together:
    """One step for several runs of train.py that differ in nothing but their seed.

    What S networks have is kept as two tensors (S, P), in `state`: those of the parameters that
    decay, and the rest, as in the groups of the optimiser. P: the numbers of one network in it.
    """

    def __init__(self, runs):
        first = runs[0]
        self.runs, self.network, self.device = runs, first.network, first.device
        for layer in self.network.modules():
            if isinstance(layer, model.Dropout):
                layer.by_bytes = False  # which vmap cannot do
        named = {p: name for name, p in first.network.named_parameters()}
        groups = first.optimizer.param_groups
        if type(first.optimizer) is not model.AdamW:
            raise ValueError("several seeds at once are trained by AdamW alone: see update()")
        self.betas, self.eps = groups[0]["betas"], groups[0]["eps"]
        self.names = [[named[p] for p in group["params"]] for group in groups]
        self.shapes = {name: p.shape for p, name in named.items()}
        self.decay = [group["weight_decay"] for group in groups]
        kept = ["weights", "exp_avg", "exp_avg_sq"] + ["average"] * bool(first.ema)
        self.state = {part: self.gather(part) for part in kept}
        number = lambda x: torch.tensor(float(x), device=self.device)
        self.taken, self.lr, self.mix = number(first.first_iter), number(0), number(0)
        self.loss_sum = torch.tensor([float(run.loss_sum) for run in runs], device=self.device)
        self.losses = torch.vmap(self.loss, randomness="different")
        if first.compile:
            self.losses, self.update = torch.compile(self.losses), torch.compile(self.update)
        self.graphs, self.met = {}, set()
        self.streams = [torch.cuda.Stream() for _ in runs] if self.on_gpu() else []

    def on_gpu(self):
        return torch.device(self.device).type == "cuda"

    def gather(self, part):
        """Two tensors (S, P) of a part of the runs: see tensors_of()."""
        rows = [tensors_of(run, part) for run in self.runs]
        flat = lambda row, names: torch.cat([row[name].detach().flatten() for name in names])
        return [torch.stack([flat(row, names) for row in rows]) for names in self.names]

    def hand_out(self, it):
        """Give every run what is its own after `it` steps, to be evaluated and saved."""
        for part, stacked in self.state.items():
            for number, run in enumerate(self.runs):
                own = self.split([x[number] for x in stacked])
                for name, tensor in tensors_of(run, part).items():
                    tensor.detach().copy_(own[name])
        for run, loss_sum in zip(self.runs, self.loss_sum.tolist()):
            run.loss_sum = loss_sum
            for state in run.optimizer.state.values():
                state["step"] = torch.tensor(float(it), device=self.device)

    def split(self, flat):
        """{name: tensor} from two tensors (P,), those of one network."""
        parts = {}
        for x, names in zip(flat, self.names):
            pieces = x.split([self.shapes[name].numel() for name in names])
            parts |= {name: piece.view(self.shapes[name]) for name, piece in zip(names, pieces)}
        return parts

    def loss(self, weights, batch, see, shares, at=None):
        """The loss of one network, a scalar, given what train.train_step() would give it."""
        with self.runs[0].autocast:
            outputs = functional_call(self.network, self.split(weights), (batch, see, at))
            return model.loss(self.network, outputs, batch, shares, at, self.runs[0].weights)[0]

    def batches(self, it):
        """What train.get_batch() draws for each seed, stacked: {factor: (S, B, T)}, see, predict.

        On a GPU every seed draws in a stream of its own, all at the same time.
        """
        if not self.streams:
            return stack([run.get_batch(it) for run in self.runs])
        drawn, main = [], torch.cuda.current_stream()
        for run, stream in zip(self.runs, self.streams):
            stream.wait_stream(main)
            with torch.cuda.stream(stream):
                drawn.append(run.get_batch(it))
        for stream in self.streams:
            main.wait_stream(stream)
        return stack(drawn)

    def advance(self, it):
        """One step of all networks, as train.train_step() takes it of one."""
        first = self.runs[0]
        batch, see, predict = self.batches(it)  # {factor: (S, B, T)}, (S, B, T, 3) each
        turn = first.turns[it % len(first.turns)]
        shares = torch.vmap(lambda mask: traits.shares(turn, mask, self.network.factors))(predict)
        finer = isinstance(predict, dict)  # what it asks for is known on the device only
        at = None if finer else traits.wanted_timestep(turn, predict)  # (S, B), or None for all
        more = () if at is None else (at,)  # vmap takes tensors only
        weights = [x.detach().requires_grad_() for x in self.state["weights"]]
        losses = self.losses(weights, batch, see, shares, *more)  # (S,)
        self.update(torch.autograd.grad(losses.sum(), weights))
        self.loss_sum += losses.detach()

    def update(self, gradients):
        """Clip the gradients (S, P) of each network, take a step of AdamW, and average the weights.

        torch's own AdamW would do, but on two tensors it keeps a few percent of a GPU at work.
        """
        clip, (beta1, beta2), eps = self.runs[0].grad_clip, self.betas, self.eps
        self.taken += 1
        if clip:
            norm = sum(x.square().sum(dim=1, keepdim=True) for x in gradients).sqrt()  # (S, 1)
            gradients = [x * (clip / (norm + 1e-6)).clamp(max=1) for x in gradients]
        step_size = self.lr / (1 - beta1**self.taken)
        correction = (1 - beta2**self.taken).sqrt()
        parts = (self.state[name] for name in ("weights", "exp_avg", "exp_avg_sq"))
        for x, mean, square, gradient, decay in zip(*parts, gradients, self.decay):
            mean.lerp_(gradient, 1 - beta1)
            square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            x.mul_(1 - self.lr * decay)
            x.sub_(step_size * mean / (square.sqrt() / correction + eps))
        for mean, x in zip(self.state.get("average", ()), self.state["weights"]):
            mean.lerp_(x, self.mix)

    def step(self, it):
        """Take a step: on a GPU by replaying the record of one that was taken before."""
        first = self.runs[0]
        for run in self.runs:
            run.reseed(it)
            run.loss_count += 1
        self.lr.fill_(first.lr_at(it))
        self.mix.fill_(1 - first.ema if it else 1)  # an average begins with the first weights
        turn = it % len(first.turns)
        if self.on_gpu() and turn in self.met and turn not in self.graphs:
            self.graphs[turn] = self.record(it)
        self.met.add(turn)
        self.graphs[turn].replay() if turn in self.graphs else self.advance(it)

    def record(self, it):
        """A step as a CUDA graph, which draws from the same generators when it is replayed."""
        graph = torch.cuda.CUDAGraph()
        for run in self.runs:
            graph.register_generator_state(run.generator)
        with torch.cuda.graph(graph):
            self.advance(it)
        return graph

    def evaluate_and_save(self, it):
        """Let each run do what train.py does between its steps."""
        self.hand_out(it)
        for run in self.runs:
            print(f"seed {run.seed}", end=", ")
            run.evaluate_and_save(it)
        self.loss_sum.zero_()


def tensors_of(run, part):
    """{name: tensor} of a run's "weights", of their "average", or of one of AdamW's moments."""
    network = run.evaluated if part == "average" else run.network
    named = dict(network.named_parameters())
    if part in ("weights", "average"):
        return named
    state = run.optimizer.state  # empty before the first step
    return {name: state[p].setdefault(part, torch.zeros_like(p)) for name, p in named.items()}


def stack(parts):
    """A list of tensors, or of dictionaries or tuples of them, as one with an axis before all."""
    if isinstance(parts[0], dict):
        return {name: stack([part[name] for part in parts]) for name in parts[0]}
    if isinstance(parts[0], tuple):
        return tuple(stack(list(part)) for part in zip(*parts))
    return torch.stack(parts)


def folder_of(arguments):
    """The out_dir that train.py would take from its arguments, with a {seed} in it."""
    out_dir = "out/run"
    for path in (word for word in arguments if not word.startswith("-")):
        out_dir = configurator.read_file(path).get("out_dir", out_dir)
    for flag in (word for word in arguments if word.startswith("--out_dir=")):
        out_dir = flag.removeprefix("--out_dir=")
    return out_dir if "{seed}" in out_dir else out_dir + "_s{seed}"


def set_up_all(arguments):
    """The runs of all seeds, without those that are at their end already."""
    runs, rest = [], [*arguments, f"--out_dir={folder_of(arguments)}", "--seed={seed}"]
    numbers = seeds.split(",")
    if not all(map(str.isdecimal, numbers)) or len(set(map(int, numbers))) < len(numbers):
        raise ValueError(f"seeds={seeds!r} are not different numbers with commas: 0,1,2")
    if configurator.processes()[1] > 1:
        raise ValueError("several seeds at once: without torchrun")
    for number in numbers:
        with contextlib.suppress(SystemExit):  # train.py has said that it is done
            runs.append(set_up([word.replace("{seed}", number) for word in rest]))
    for run in runs[:1]:
        if run.wandb_log:
            raise ValueError("several seeds at once: without wandb_log")
        if run.fresh and torch.device(run.device).type == "cuda":
            raise ValueError("fresh trajectories are made on the CPU: one seed at a time")
    for run in runs[1:]:
        differ = [k for k in run.config if k not in OWN and run.config[k] != runs[0].config[k]]
        if differ or run.network.factors != runs[0].network.factors:  # and what it is scaled by
            what = differ[0] if differ else "the scale of their data"
            raise ValueError(f"several seeds at once differ in {what}: train them one by one")
    # Where all were killed while they saved, those that had not yet done so catch up.
    furthest = max((run.first_iter for run in runs), default=0)
    for run in runs:
        for it in range(run.first_iter, furthest):
            if it % run.eval_interval == 0:
                run.evaluate_and_save(it)
            run.loss_sum, run.loss_count = run.loss_sum + run.train_step(it), run.loss_count + 1
        run.first_iter = furthest
    return runs


def main(arguments):
    runs = set_up_all(arguments)
    if not runs:
        return
    first = runs[0]
    print("\n".join(f"{name} = {value!r}" for name, value in first.config.items()))
    print(f"{len(runs)} times {model.num_params(first.network):,} parameters")
    for run in runs:
        if run.init_from != "resume":
            checkpoint.begin(run.out_dir, run.overwrite)
    together = Together(runs)
    stop, quiet = configurator.stops(), not sys.stderr.isatty()
    for it in tqdm(range(first.first_iter, first.max_iters + 1), disable=quiet):
        last = it == first.max_iters or bool(stop)  # a later signal ends the step after this one
        if it % first.eval_interval == 0 or it == first.max_iters:
            together.evaluate_and_save(it)
        elif stop:
            together.hand_out(it)
            for run in runs:
                run.check_finite(it)
                run.save(it, False)
        if last:
            break
        together.step(it)
    if stop and it < first.max_iters:
        checkpoint.stopped(it, stop[0])


if __name__ == "__main__":
    own = [word for word in sys.argv[1:] if word.startswith("--seeds=") or word in ("-h", "--help")]
    configurator.apply(globals(), own)
    main([word for word in sys.argv[1:] if word not in own])
