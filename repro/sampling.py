"""How good are joint samples, on DoorKey, where bayes.py knows the answer: laws, distributions, likelihoods, speed.

    python repro/sampling.py --out_dir=out/minigrid_queries     # about 5 minutes on 2 cores

1. Lawful: the share of transitions of joint samples that MiniGrid's dynamics allow.
2. Distribution: the total variation between 10,000 joint samples and the exact posterior, for 5 fixed queries; beside
   it that of 10,000 exact samples, which is what their number alone accounts for.
3. Likelihood: the chain rule in several orders, their spread, and the exact likelihood.
4. Speed: 1,000 joint samples of a whole trajectory.
Writes `result`.json and `result`.md.
"""

import os
import sys
import time

import torch

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import bayes  # noqa: E402
import configurator  # noqa: E402
import doorkey  # noqa: E402
import evaluate  # noqa: E402
import queries  # noqa: E402
import sample as ask  # noqa: E402
from model import load  # noqa: E402

QUERIES = {  # all about one test trajectory
    "start and goal": "state[0], state[9]",
    "past": "state[5:], action[5:]",
    "future": "state[:4], action[:3]",
    "middle": "state[:3], action[:2], state[8:], action[8:]",
    "return-conditioned": "state[0], return[0]",
}
STATES = ("agent_pos", "key_pos")
FACTORS = (*STATES, "action")


def lawful(model, test, unit, generator):
    """{query: {order: share of lawful transitions, "exact": of exact samples, "starts": share of lawful starts}}."""
    found = {}
    for name, text in {"start and goal": dict(see=QUERIES["start and goal"]), "past": dict(task="past")}.items():
        asked = queries.query(test.tensors(), model.factors, **text, generator=generator)
        found[name] = {}
        for order in ask.ORDERS:
            drawn, _ = ask.sample(model, asked, per_trajectory, generator, order, 1.0, unit)
            flat = {factor: x.flatten(0, 1).numpy() for factor, x in drawn.items()}
            found[name][order] = float(ask.obeys(*(flat[factor] for factor in FACTORS)).mean())
            if order == "forward":
                start = doorkey.table().index[flat["agent_pos"][:, 0], flat["key_pos"][:, 0], 0, 0]
                found[name]["starts"] = float((start >= 0).mean())
        exact = bayes.sample(test, asked.see, generator, per_trajectory)
        flat = [exact[factor].reshape(-1, doorkey.LENGTH) for factor in FACTORS]
        found[name]["exact samples"] = float(ask.obeys(*flat).mean())
    return found


def distributions(model, one, unit, generator):
    """{query: {who: {"mean", "max" over the wanted marginals, "final cell", "pairs": total variation}}}.

    who: the model's samples, exact samples. pairs: the agent's cells at two consecutive timesteps, jointly, the largest
    over time; compared with other exact samples, of which both have their share of noise.
    """
    found = {}
    for name, text in QUERIES.items():
        asked = queries.query(one.tensors(), model.factors, text)
        posterior = {
            factor: torch.as_tensor(p[0]) for factor, p in bayes.posterior(one, asked.see).items()
        }  # (T, classes)
        first, second = (exact_samples(one, asked, generator) for _ in range(2))
        drawn, _ = ask.sample(model, asked, samples, generator, "forward", 1.0, unit)
        found[name] = {}
        for who, values in (("model", {factor: drawn[factor][0] for factor in FACTORS}), ("exact samples", first)):
            variations = {}
            for factor in FACTORS:
                shares = torch.nn.functional.one_hot(values[factor], posterior[factor].shape[-1]).double().mean(dim=0)
                variations[factor] = 0.5 * (shares - posterior[factor]).abs().sum(dim=-1)  # (T,)
            wanted = torch.cat([variations[factor][asked.predict[factor][0]] for factor in FACTORS])
            found[name][who] = {
                "mean": wanted.mean().item(),
                "max": wanted.max().item(),
                "final cell": variations["agent_pos"][-1].item(),
                "pairs": max(pair_variation(values["agent_pos"], second["agent_pos"])),
            }
    return found


def exact_samples(one, asked, generator):
    return {factor: torch.as_tensor(x[0]) for factor, x in bayes.sample(one, asked.see, generator, samples).items()}


def pair_variation(cells, others):
    """Total variation between two sets of samples (n, T), of the pair of cells at t and t+1, for each t."""
    classes = int(max(cells.max(), others.max())) + 1
    shares = lambda x, t: torch.bincount(x[:, t] * classes + x[:, t + 1], minlength=classes**2) / len(x)
    return [0.5 * (shares(cells, t) - shares(others, t)).abs().sum().item() for t in range(cells.shape[1] - 1)]


def likelihoods(model, test, unit, generator):
    """{query: {order: mean nats, "exact": mean nats, "spread": ...}} of the truth given what is seen.

    spread: the standard deviation over four orders of one trajectory's log-likelihood, averaged over trajectories.
    """
    found = {}
    for name in ("start and goal", "past", "future"):
        asked = queries.query(test.tensors(), model.factors, QUERIES[name])
        orders = ("forward", "backward", "random", "confidence")
        nats = torch.stack([ask.log_likelihood(model, asked, order, unit, generator) for order in orders])  # (4, N)
        everything = {factor: asked.see[factor] | asked.predict[factor] for factor in asked.see}
        exact = bayes.log_likelihood(test, everything) - bayes.log_likelihood(test, asked.see)  # (N,)
        found[name] = dict(zip(orders, nats.mean(dim=1).tolist())) | {
            "exact": float(exact.mean()),
            "spread": nats.std(dim=0).mean().item(),
            "forward - backward, mean": (nats[0] - nats[1]).mean().item(),
            "forward - backward, standard deviation": (nats[0] - nats[1]).std().item(),
        }
    return found


def speed(model, one, generator):
    """Seconds for 1,000 (speed_samples) joint samples of a whole trajectory, by unit: the best of two."""
    asked = queries.query(one.tensors(), model.factors)
    found = {}
    for unit in ask.UNITS:
        seconds = []
        for _ in range(2):
            begin = time.perf_counter()
            ask.sample(model, asked, speed_samples, generator, "forward", 1.0, unit)
            seconds.append(time.perf_counter() - begin)
        found[unit] = min(seconds)
    return found


def markdown(found):
    """The results as four tables."""
    lines = [f"# Joint samples of `{found['out_dir']}` beside the exact posterior", "", f"`{found['command']}`", ""]
    for title, key in (
        ("Share of transitions that obey the dynamics", "lawful"),
        ("Total variation", "distribution"),
        ("Log-likelihood of the truth [nats]", "likelihood"),
    ):
        rows = {}
        for query, row in found[key].items():
            nested = all(isinstance(cell, dict) for cell in row.values())
            rows |= {f"{query}, {who}": cells for who, cells in row.items()} if nested else {query: row}
        columns = list(next(iter(rows.values())))
        lines += [f"## {title}", "", f"| query | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        lines += [
            f"| {name} | {' | '.join(f'{row[column]:.4f}' for column in columns)} |" for name, row in rows.items()
        ]
        lines.append("")
    seconds = ", ".join(f"{x:.1f} s by {unit}" for unit, x in found["seconds"].items())
    lines.append(f"{speed_samples:,} joint samples of a whole trajectory: {seconds}, on {found['threads']} threads.")
    return "\n".join(lines) + "\n"


def main():
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(seed)
    model, trained = load(out_dir), evaluate.read_config(out_dir)
    if trained["dataset"] != "doorkey" or model.config.context != doorkey.LENGTH:
        raise ValueError(f"{out_dir} has no exact posterior: it is not trained on whole trajectories of DoorKey")
    fill = ask.choose_unit(unit, trained)
    test = evaluate.evaluation_set("doorkey", 0, trained["data_seed"], "test")
    test, one = test[:trajectories], test[[trajectory]]
    found = {
        "command": f"python repro/sampling.py {' '.join(sys.argv[1:])}",
        "out_dir": out_dir,
        "unit": fill,
        "threads": threads,
        "torch": torch.__version__,
        "lawful": lawful(model, test, fill, generator),
        "distribution": distributions(model, one, fill, generator),
        "likelihood": likelihoods(model, test, fill, generator),
        "seconds": speed(model, one, generator),
    }
    os.makedirs(os.path.dirname(result) or ".", exist_ok=True)
    evaluate.save_json(f"{result}.json", found)
    text = markdown(found)
    with configurator.beside(f"{result}.md") as unfinished, open(unfinished, "w", encoding="utf-8") as file:
        file.write(text)
    print(text)


# settings of the command line
out_dir = "out/minigrid_queries"  # a folder that train.py made, on DoorKey
result = "repro/results/sampling"  # where the results go: .json and .md
trajectories = 500  # test trajectories for lawfulness and likelihoods
per_trajectory = 5  # samples of each
trajectory = 17  # the one that the five queries are about
samples = 10000  # of each query
speed_samples = 1000  # of a whole trajectory, to time
unit = "auto"  # ask.UNITS, or "auto" as in sample.py
seed = 0
threads = 2

if __name__ == "__main__":
    configurator.apply(globals())
    main()
