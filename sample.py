"""Ask a trained model anything: name what is known and what is wanted, and get marginals, samples and a picture.

    python sample.py --trajectory=17 --see="state[0],state[9]" --predict="action[:],state[1:9]"
    python sample.py --task=past --order=backward --samples=1000
    python sample.py --set="agent_pos[0]=5,key_pos[0]=2" --world=True --picture=walk.gif

Known values come from a validation trajectory, or are given by --set (queries.py has the language). Marginals take one
forward pass. Joint samples are filled in entry by entry, each conditioned on those before it, so the product of the
probabilities met on the way is the likelihood of the whole, by the chain rule, in whatever order. A model that knew
the posterior would give the same answer in every order; how far apart they are tells how consistent a model is.

Read next: queries.py, pictures.py. Before this: model.py, masks.py.
"""

import math
import os

import numpy as np
import torch

import configurator
import data
import doorkey
import evaluate
import pictures
import queries
from model import load

ORDERS = ("forward", "backward", "random", "confidence")
UNITS = ("factor", "token")


def marginals(model, values, see):
    """Each entry's own distribution given what is seen, from one forward pass.

    values: {factor: (B, T) or (B, T, k) tensor}; see: (B, T, 3) or {factor: (B, T)} bool.
    Returns {factor: (B, T, classes) probabilities, or (B, T, k) means in raw units} of what the model predicts.
    """
    outputs = evaluate.answer(model, values, see)
    kinds = {f.name: f.kind for f in predicted_factors(model)}
    return {
        name: outputs[name].softmax(dim=-1) if kind == "categorical" else outputs[name] for name, kind in kinds.items()
    }


def sample(model, query, n, generator, order="forward", temperature=1.0, unit="factor"):
    """n joint samples of what a query wants, given what it sees, for each of its B rows.

    generator: torch.Generator on the CPU. order: one of ORDERS; "random" draws an order per sample, "confidence" fills
    in the entry of lowest entropy next. temperature: divides logits (and a Gaussian's log-density); 0 takes the most
    probable value. unit: fill in a "factor" of a timestep at a time, or all state factors of it at once ("token"),
    which takes them for independent: for models trained without factor_hiding, which never met half a token.
    Continuous factors are drawn from a Gaussian head where there is one; otherwise their means are filled in.
    Returns {factor: (B, n, T) or (B, n, T, k)}, with entries that were not wanted as they were, and the (B, n) float64
    log-probability of each sample, at temperature 1, in nats (NaN where there are only means).
    Raises ValueError for an unknown order or unit, a negative temperature, or what a causal model cannot look at.
    """
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature={temperature} must be a number of at least 0")
    if n < 1:
        raise ValueError(f"samples={n} must be at least 1")
    repeated = [{name: x.repeat_interleave(n, dim=0) for name, x in part.items()} for part in query]
    draw = lambda prediction, _: prediction.draw(temperature, generator)
    values, log_probability = fill(model, *repeated, order, unit, generator, draw)
    return {name: x.unflatten(0, (-1, n)) for name, x in values.items()}, log_probability.view(-1, n)


def log_likelihood(model, query, order="forward", unit="factor", generator=None):
    """(B,) float64 log p(the query's wanted values | its seen values), in nats, by the chain rule in the given order.

    generator: for the order "random". Raises ValueError as sample(), and for factors of which there are only means.
    """
    nats = fill(model, *query, order, unit, generator, lambda _, truth: truth)[1]
    if nats.isnan().any():
        raise ValueError("this model has only means of continuous factors: for likelihoods train with head='gaussian'")
    return nats


def fill(model, values, see, predict, order, unit, generator, draw):
    """Fill in the wanted entries one slot at a time: the loop behind samples and likelihoods, for B rows at once.

    draw(prediction, present): what to fill in, (M,) or (M, k), from a Prediction of M entries and the values now there.
    Returns the values, and the log-probability (B,) of what was filled in. See sample() for the rest.
    """
    check(model, see, predict, order, unit)
    factors = predicted_factors(model)
    time, members = slots(factors, see[factors[0].name].shape[1], unit)
    values, see = ({name: x.clone() for name, x in part.items()} for part in (values, see))
    wanted = torch.stack([predict[f.name][:, time] & members[f.name] for f in factors]).any(0)  # (B, slots)
    B, rows = len(wanted), torch.arange(len(wanted))
    turn = torch.arange(len(time)).expand_as(wanted) * (-1 if order == "backward" else 1)  # the lowest is next
    if order == "random":
        turn = torch.rand(wanted.shape, generator=generator)
    total = torch.zeros(B, dtype=torch.float64)
    while wanted.any():
        outputs = evaluate.answer(model, values, see)
        if order == "confidence":
            entropy = {f.name: Prediction(f, outputs).entropy() * predict[f.name] for f in factors}  # (B, T)
            turn = sum(entropy[f.name][:, time] * members[f.name] for f in factors)
        slot = turn.double().masked_fill(~wanted, math.inf).argmin(dim=1)  # (B,) the slot each row fills now
        t, active = time[slot], wanted[rows, slot]
        for f in factors:
            now = members[f.name][slot] & predict[f.name][rows, t] & active  # (B,) rows that fill in this factor
            if not now.any():
                continue
            at = rows[now], t[now]
            prediction = Prediction(f, outputs, at)
            new = draw(prediction, values[f.name][at])
            values[f.name][at], see[f.name][at] = new, True
            total[now] += prediction.log_probability(new)
        wanted[rows, slot] = False
    return values, total


class Prediction:
    """What a model says of M entries of one factor: a categorical distribution, a Gaussian, or no more than a mean."""

    def __init__(self, factor, outputs, at=...):
        """outputs: of evaluate.answer(); at: index of the entries (rows, timesteps), by default all of them."""
        self.factor, self.output = factor, outputs[factor.name][at].double()  # (M, classes) logits or (M, k) means
        log_variance = outputs.get(f"{factor.name}/log_variance")
        self.log_variance = None if log_variance is None else log_variance[at].double()  # (M, k)

    def draw(self, temperature, generator):
        """(M,) classes or (M, k) numbers; for temperature 0 the most probable ones."""
        if self.factor.kind == "categorical":
            if temperature == 0:
                return self.output.argmax(dim=-1)
            return torch.multinomial((self.output / temperature).softmax(dim=-1), 1, generator=generator)[:, 0]
        value = self.output
        if self.log_variance is not None:
            noise = torch.randn(value.shape, generator=generator, dtype=value.dtype)
            value = value + math.sqrt(temperature) * (self.log_variance / 2).exp() * noise
        return value.float()

    def log_probability(self, value):
        """(M,) nats: of classes, or the log-density of numbers; NaN where there is only a mean."""
        if self.factor.kind == "categorical":
            return self.output.log_softmax(dim=-1).gather(-1, value[..., None])[..., 0]
        if self.log_variance is None:
            return torch.full(value.shape[:-1], math.nan, dtype=torch.float64)
        squares = (value - self.output).square() / self.log_variance.exp()
        return -0.5 * (squares + self.log_variance + math.log(2 * math.pi)).sum(dim=-1)

    def entropy(self):
        """(M,) nats; 0 where there is only a mean."""
        if self.factor.kind == "categorical":
            return torch.special.entr(self.output.softmax(dim=-1)).sum(dim=-1)
        if self.log_variance is None:
            return torch.zeros(self.output.shape[:-1], dtype=torch.float64)
        return 0.5 * (self.log_variance + math.log(2 * math.pi) + 1).sum(dim=-1)


def slots(factors, T, unit):
    """What is filled in together, in forward order: at each timestep the state factors, then the action.

    Returns the timestep of each slot (S,), and {factor: (S,) bool, whether it belongs to the slot}.
    """
    states, actions = ([f.name for f in factors if f.group == group] for group in ("STATE", "ACTION"))
    together = [[name] for name in states + actions] if unit == "factor" else [states, actions]
    time = torch.arange(T).repeat_interleave(len(together))
    return time, {f.name: torch.tensor([f.name in part for part in together]).repeat(T) for f in factors}


def predicted_factors(model):
    """The factors that a model predicts: states and actions; of Decision-GPT, the actions."""
    groups = ("ACTION",) if model.config.model == "dt" else ("STATE", "ACTION")
    return [f for f in model.factors if f.group in groups]


def check(model, see, predict, order, unit):
    """Raise ValueError for an unknown order or unit, and for what the model cannot do."""
    for name, value, choices in (("order", order, ORDERS), ("unit", unit, UNITS)):
        if value not in choices:
            raise ValueError(f"{name}={value!r} is not one of {', '.join(choices)}")
    able = [f.name for f in predicted_factors(model)]
    for name, mask in predict.items():
        if mask.any() and name not in able:
            raise ValueError(f"the model {model.config.model!r} does not predict {name}; it predicts {', '.join(able)}")
    if model.config.model == "dt":
        wanted = predict[able[0]]  # (B, T)
        seen = torch.stack(list(see.values())).any(0)
        last = lambda mask: (mask * (torch.arange(mask.shape[1]) + 1)).amax(dim=1)
        first = wanted.long().argmax(dim=1) + 1
        if order != "forward" or (last(seen) > first).any():
            raise ValueError(
                "the causal model 'dt' looks only back: use order='forward', and see nothing that comes later"
            )


# ---------------------------------------------------------------------------------------------------------------------
# Worlds: the model acts and the world answers; and whether what a model filled in could happen at all


def play(model, query, env, generator, horizon=None, temperature=1.0):
    """Complete a query forwards in a world: the model chooses actions, the world's dynamics give the states.

    query: of one row, whose first state is seen; what else it sees is a condition (a goal), until the world gets there.
    env: n copies of a world where an episode begins (place()). horizon: steps to play, by default the window's T; in
    more, the window slides along. Seen actions are carried out as they are.
    Returns {factor: (n, horizon) or (n, horizon, k)} and the rewards (n, horizon).
    Raises ValueError for a negative horizon or temperature.
    """
    if (horizon or 0) < 0 or not 0 <= temperature < math.inf:
        raise ValueError(f"horizon={horizon} and temperature={temperature} must be numbers of at least 0")
    T, n = model.config.context, env.n
    horizon = horizon or query.values["action"].shape[1]
    extend = lambda x: torch.cat([x, x.new_zeros(1, horizon, *x.shape[2:])], dim=1).repeat_interleave(n, dim=0)
    values, see = ({name: extend(x) for name, x in part.items()} for part in query[:2])  # (n, T + horizon)
    rewards, action = np.zeros((n, horizon)), next(f for f in model.factors if f.group == "ACTION")
    for t in range(horizon):
        first = max(0, t - T + 1)
        for name, observed in env.observe().items():
            values[name][:, t], see[name][:, t] = torch.as_tensor(observed), True
        if not see[action.name][0, t]:
            window, shown = ({name: x[:, first : first + T] for name, x in part.items()} for part in (values, see))
            window["timestep"] = (first + torch.arange(T)).expand(n, T)
            prediction = Prediction(action, evaluate.answer(model, window, shown), (slice(None), t - first))
            chosen = prediction.draw(temperature, generator)
            values[action.name][:, t] = chosen if action.kind == "categorical" else chosen.clamp(-1, 1)
            see[action.name][:, t] = True
        _, rewards[:, t] = env.step(values[action.name][:, t].numpy())
    return {f.name: values[f.name][:, :horizon] for f in model.factors}, rewards


def place(world, query, n, seed):
    """n copies of a world at the first state of a query (its row 0). Maze2D's velocity, which it cannot name, is drawn.

    Raises ValueError unless the query sees that state, and it is one where an episode may begin.
    """
    env = data.environment(world, n, seed)
    for name in env.observe():
        if not query.see[name][0, 0]:
            raise ValueError(f"in the world a query begins with a known state: {name}[0] is neither seen nor set")
    first = {name: query.values[name][0, 0].numpy() for name in env.observe()}
    if world.startswith("doorkey"):
        env.state[:] = env.table.index[first["agent_pos"], first["key_pos"], 0, 0]
        if env.state[0] < 0:
            cells = f"agent_pos={first['agent_pos']}, key_pos={first['key_pos']}"
            raise ValueError(f"no episode begins with {cells}: both lie left of the wall, on different cells")
    else:
        env.set_state(np.tile(first["position"], (n, 1)), env.qvel, np.tile(first["goal"], (n, 1)))
    return env


def obeys(agent_pos, key_pos, action, size=6):
    """Which transitions of DoorKey trajectories its dynamics allow: (N, T-1) bool, from three (N, T) integer arrays.

    Whether the key is held and the door open is not among the factors, and need not be known: the key is held where the
    agent is, and its holder passes a closed door as an open one, so all states of the same cells lead to the same cells
    (a test says so). Whether an episode may begin as a trajectory does is another question: see place().
    """
    table = doorkey.table(size)
    states = table.index[agent_pos, key_pos].reshape(*agent_pos.shape, 4).max(axis=-1)  # (N, T), -1: unreachable
    after = table.states[table.successor[states[:, :-1], action[:, :-1]]]  # (N, T-1, 4)
    arrives = (after[..., 0] == agent_pos[:, 1:]) & (after[..., 1] == key_pos[:, 1:])
    return arrives & (states[:, :-1] >= 0)


def lawful_share(samples, known, size=6):
    """The share of lawful transitions among those of which all five entries are known; None if there are none.

    samples: {factor: (N, T)} tensors; known: {factor: (T,) bool}, seen or filled in.
    """
    state = known["agent_pos"] & known["key_pos"]
    whole = (state[:-1] & state[1:] & known["action"][:-1]).numpy()
    if not whole.any():
        return None
    return float(obeys(*(samples[name].numpy() for name in ("agent_pos", "key_pos", "action")), size)[:, whole].mean())


# ---------------------------------------------------------------------------------------------------------------------
# The command


def main():
    config = configurator.apply(globals())
    evaluate.check_seed(config["seed"])
    path = config["picture"] or os.path.join(config["out_dir"], "answer.png")
    pictures.check_path(path)
    model, trained = load(config["out_dir"], config["device"]), evaluate.read_config(config["out_dir"])
    generator = torch.Generator().manual_seed(config["seed"])
    source = (trained[key] for key in ("dataset", "num_trajectories", "data_seed"))
    held_out = evaluate.evaluation_set(*source, config["split"])
    evaluate.check_fit(model, held_out, trained["dataset"])
    window = one_window(held_out, config["trajectory"], config["start"], model.config.context)
    texts = (config[key] or "" for key in ("see", "predict", "task", "set"))
    asked = queries.query(window, model.factors, *texts, generator)
    answers = {"model": marginals(model, asked.values, asked.see)}
    if config["exact"]:
        answers["exact"] = exact_posterior(held_out, asked)
    samples, known = None, {name: (asked.see[name] | asked.predict[name])[0] for name in asked.see}
    if config["world"]:
        if config["start"]:
            raise ValueError(f"start={config['start']}: in the world a query begins where an episode does, at 0")
        env = place(held_out.world, asked, max(1, config["samples"]), config["seed"])
        samples, rewards = play(model, asked, env, generator, config["horizon"], config["temperature"])
        known = {name: torch.ones(rewards.shape[1], dtype=torch.bool) for name in known}
        print(f"{env.n} completions with the world's own dynamics: mean return {rewards.sum(axis=1).mean():.3f}")
        tell_arrivals(samples, asked, model.factors)
    elif config["samples"]:
        options = config["order"], config["temperature"], choose_unit(config["unit"], trained)
        drawn, nats = sample(model, asked, config["samples"], generator, *options)
        samples = {name: x[0] for name, x in drawn.items()}
        likelihood = "" if nats.isnan().any() else f", mean log-probability {nats.mean():.3f} nats"
        print(f"{config['samples']} joint samples{likelihood}")
    if samples and held_out.world.startswith("doorkey"):
        share = lawful_share(samples, known, size=math.isqrt(model.factors[0].size) + 2)
        if share is not None:
            print(f"{share:.2%} of their transitions obey DoorKey's dynamics")
    tell(asked, answers, model.factors)
    pictures.draw(path, held_out.world, asked, answers, samples, known, truth=None if config["set"] else window)


def choose_unit(unit, trained):
    """What "auto" stands for, by the settings that a model was trained with."""
    return unit if unit != "auto" else "factor" if trained.get("factor_hiding") else "token"


def one_window(trajectories, number, start, context):
    """{factor: (1, T) or (1, T, k) tensor} of a trajectory, and "timestep". Raises ValueError if there is no such."""
    if not -len(trajectories) <= number < len(trajectories):
        raise ValueError(f"trajectory={number}: there are {len(trajectories)}, from 0 to {len(trajectories) - 1}")
    one = trajectories[[number]]
    if not 0 <= start <= one.lengths[0] - context:
        raise ValueError(f"start={start}: a window of {context} steps begins at 0 to {one.lengths[0] - context} here")
    window = {name: x[:, start : start + context] for name, x in one.tensors().items()}
    return window | {"timestep": start + torch.arange(context)[None]}


def exact_posterior(trajectories, query):
    """What the exact posterior answers to a query on whole trajectories of DoorKey, as marginals() does."""
    import bayes

    if query.see["action"].shape[1] != trajectories.lengths[0]:
        raise ValueError("the exact posterior is of whole trajectories: this model's context is shorter")
    values = {f.name: query.values[f.name].numpy() for f in trajectories.factors}
    posterior = bayes.posterior(data.Trajectories(trajectories.factors, values), query.see)
    return {name: torch.as_tensor(p) for name, p in posterior.items()}


def tell(query, answers, factors):
    """Print each wanted entry: its three most probable classes, or its mean."""
    for f in (f for f in factors if f.name in answers["model"]):
        for t in query.predict[f.name][0].nonzero()[:, 0].tolist():
            line = f"{f.name}[{t}]".ljust(16)
            for who, answer in answers.items():
                if f.kind == "categorical":
                    top = answer[f.name][0, t].topk(min(3, f.size))
                    text = ", ".join(f"{value} ({p:.2f})" for p, value in zip(*map(torch.Tensor.tolist, top)))
                else:
                    text = ", ".join(f"{x:.3f}" for x in answer[f.name][0, t].tolist())
                line += f"  {who}: {text}".ljust(44)
            print(line.rstrip())


def tell_arrivals(samples, query, factors):
    """Print, for each state that the query sees ahead, how the samples played in the world met it."""
    for f in (f for f in factors if f.group == "STATE"):
        for t in query.see[f.name][0, : samples[f.name].shape[1]].nonzero()[:, 0].tolist():
            there, wanted = samples[f.name][:, t], query.values[f.name][0, t]
            if f.kind == "categorical":
                print(f"{(there == wanted).double().mean():.1%} of them met {f.name}[{t}]={wanted}")
            elif t > 0:
                print(f"they missed {f.name}[{t}] by {(there - wanted).norm(dim=-1).mean():.3f} on average")


# settings of the command line
out_dir = "out/minigrid_random"  # a folder that train.py made
trajectory = 0  # known values come from this one of the split; a negative number counts from its end
split = "val"  # "val": trajectories held out in training; "test": fresh ones of another data seed
start = 0  # timestep of the trajectory at which the window begins
see = ""  # what is known, e.g. "state[0],state[9]" (queries.py)
predict = ""  # what is wanted; empty: what the task predicts, or all states and actions that are not seen
task = ""  # shorthand: see, and by default predict, what this task of masks.TASKS does, e.g. "past" or "span(3,8)"
set = ""  # values to see in place of the trajectory's, e.g. "agent_pos[0]=5,action[2]=1"
samples = 100  # joint samples; 0: marginals only
order = "forward"  # in which to fill in a sample: ORDERS
temperature = 1.0  # 0: the most probable value
unit = "auto"  # UNITS; "auto": "factor" if the model was trained with factor_hiding, else "token"
world = False  # let the world give the states, and the model only the actions
horizon = 0  # steps to play in the world; 0: the window's length
exact = False  # also draw the exact posterior (DoorKey)
picture = ""  # file to draw to, .png or .gif (animated); empty: answer.png in out_dir
seed = 0
device = "cpu"

if __name__ == "__main__":
    main()
