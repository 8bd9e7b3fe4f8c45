"""How good are joint samples on DoorKey, where bayes.py knows the answer?

    python repro/sampling.py --out_dir=assets/minigrid_queries     # about 5 minutes on 2 cores

1. Valid: the share of transitions of joint samples that MiniGrid's dynamics allow.
2. Distribution: total variation between 10,000 joint samples and the exact posterior, for 5
   queries about one trajectory. Beside it that of 10,000 exact samples: what their number explains.
3. Likelihood: the chain rule in several orders, its spread, and the exact likelihood.
Writes `result`.json and `result`.md.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import configurator

import torch

import bayes
import checkpoint
import doorkey
import files
import sample as ask
import tables
import worlds

# ---- settings ------------------------------------------------------------------------------------
out_dir = "out/minigrid_queries"  # a folder that train.py made, on DoorKey
result = "repro/results/sampling"  # where the results go: .json and .md
trajectories = 500  # test trajectories for validity and likelihoods
per_trajectory = 5  # samples of each
trajectory = 17  # the one that the five queries are about
samples = 10000  # of each query
seed = 0
threads = 2
# --------------------------------------------------------------------------------------------------

QUERIES = {
    "start and goal": "state[0], state[9]",
    "past": "state[5:], action[5:]",
    "future": "state[:4], action[:3]",
    "middle": "state[:3], action[:2], state[8:], action[8:]",
    "return-conditioned": "state[0], return[0]",
}
FACTORS = ("agent_pos", "key_pos", "action")


def valid(network, test, unit, generator):
    """{query: {order: share of valid transitions, "starts": of valid starts, "exact samples"}}."""
    found = {}
    for name, text in {
        "start and goal": {"see": QUERIES["start and goal"]},
        "past": {"task": "past"},
    }.items():
        asked, found[name] = (
            ask.query(test.tensors(), network.factors, **text, generator=generator),
            {},
        )
        for order in ask.ORDERS:
            drawn, _ = ask.sample(network, asked, per_trajectory, generator, order, 1.0, unit)
            flat = {factor: x.flatten(0, 1).numpy() for factor, x in drawn.items()}
            found[name][order] = float(doorkey.valid_transitions(flat, 6).mean())
            if order == "forward":
                start = doorkey.table().index[flat["agent_pos"][:, 0], flat["key_pos"][:, 0], 0, 0]
                found[name]["starts"] = float((start >= 0).mean())
        exact = bayes.sample(test, asked.see, generator, per_trajectory)
        flat = {factor: x.reshape(-1, doorkey.LENGTH) for factor, x in exact.items()}
        found[name]["exact samples"] = float(doorkey.valid_transitions(flat, 6).mean())
    return found


def distributions(network, one, unit, generator):
    """{query: {who: {"mean" and "max" over the wanted entries, "final cell", "pairs"}}}.

    All are total variations. pairs: of the agent's cells at two consecutive timesteps, jointly, the
    largest over time; against other exact samples, so both have their share of noise.
    """
    found = {}
    for name, text in QUERIES.items():
        asked = ask.query(one.tensors(), network.factors, text)
        posterior = bayes.posterior(one, asked.see)
        exact = [bayes.sample(one, asked.see, generator, samples) for _ in range(2)]
        exact = [{factor: torch.as_tensor(x[0]) for factor, x in half.items()} for half in exact]
        drawn, _ = ask.sample(network, asked, samples, generator, "forward", 1.0, unit)
        drawn = {factor: x[0] for factor, x in drawn.items()}
        found[name] = {}
        for who, values in (("model", drawn), ("exact samples", exact[0])):
            wanted, final = [], 0.0
            for factor in FACTORS:
                truth = torch.as_tensor(posterior[factor][0])  # (T, classes)
                shares = (
                    torch.nn.functional.one_hot(values[factor], truth.shape[-1]).double().mean(0)
                )
                variation = 0.5 * (shares - truth).abs().sum(-1)  # (T,)
                wanted.append(variation[asked.predict[factor][0]])
                final = variation[-1].item() if factor == "agent_pos" else final
            wanted = torch.cat(wanted)
            pairs = max(pair_variation(values["agent_pos"], exact[1]["agent_pos"]))
            row = {"mean": wanted.mean().item(), "max": wanted.max().item()}
            found[name][who] = row | {"final cell": final, "pairs": pairs}
    return found


def pair_variation(cells, others):
    """Total variation between two sets of samples (n, T), of the cells at t and t+1, for each t."""
    classes = int(max(cells.max(), others.max())) + 1
    shares = lambda x, t: (
        torch.bincount(x[:, t] * classes + x[:, t + 1], minlength=classes**2) / len(x)
    )
    T = cells.shape[1]
    return [0.5 * (shares(cells, t) - shares(others, t)).abs().sum().item() for t in range(T - 1)]


def likelihoods(network, test, unit, generator):
    """{query: {order: mean nats of the truth, "exact", "spread", ...}}.

    spread: the standard deviation of one trajectory's log-likelihood over the orders, averaged.
    """
    found = {}
    for name in ("start and goal", "past", "future"):
        asked = ask.query(test.tensors(), network.factors, QUERIES[name])
        nats = [ask.log_likelihood(network, asked, order, unit, generator) for order in ask.ORDERS]
        nats = torch.stack(nats)  # (orders, N)
        everything = {factor: asked.see[factor] | asked.predict[factor] for factor in asked.see}
        exact = bayes.log_likelihood(test, everything) - bayes.log_likelihood(
            test, asked.see
        )  # (N,)
        difference = nats[ask.ORDERS.index("forward")] - nats[ask.ORDERS.index("backward")]
        found[name] = dict(zip(ask.ORDERS, nats.mean(dim=1).tolist())) | {
            "exact": float(exact.mean()),
            "spread": nats.std(dim=0).mean().item(),
            "forward - backward, mean": difference.mean().item(),
            "forward - backward, standard deviation": difference.std().item(),
        }
    return found


def markdown(found):
    """The results as three tables."""
    lines = [f"# Joint samples of `{found['out_dir']}` beside the exact posterior", ""]
    lines += [f"`{found['command']}`", ""]
    for title, key in (
        ("Share of valid transitions", "valid"),
        ("Total variation", "distribution"),
        ("Log-likelihood of the truth [nats]", "likelihood"),
    ):
        rows = {}
        for query, row in found[key].items():
            nested = isinstance(next(iter(row.values())), dict)
            rows |= (
                {f"{query}, {who}": cells for who, cells in row.items()} if nested else {query: row}
            )
        columns = list(next(iter(rows.values())))
        cells = [[name, *(f"{row[x]:.4f}" for x in columns)] for name, row in rows.items()]
        lines += [f"## {title}", "", *tables.markdown(["query", *columns], cells), ""]
    return "\n".join(lines)


def main():
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(seed)
    network, trained = checkpoint.load(out_dir), checkpoint.settings(out_dir)
    if trained["dataset"] != "doorkey" or network.config.context != doorkey.LENGTH:
        raise ValueError(
            f"{out_dir} has no exact posterior: it is not trained on whole trajectories of DoorKey"
        )
    unit = (
        "factor" if trained["factor_hiding"] else "group"
    )  # what the model was trained to fill in
    test = worlds.evaluation_set("doorkey", 0, trained["data_seed"], "test")
    test, one = test[:trajectories], test[[trajectory]]
    found = {"command": f"python repro/sampling.py {' '.join(sys.argv[1:])}", "out_dir": out_dir}
    found |= {"unit": unit, "threads": threads, "torch": torch.__version__}
    found["valid"] = valid(network, test, unit, generator)
    found["distribution"] = distributions(network, one, unit, generator)
    found["likelihood"] = likelihoods(network, test, unit, generator)
    files.save_json(result + ".json", found)
    files.save_text(result + ".md", markdown(found))
    print(markdown(found))


if __name__ == "__main__":
    configurator.apply(globals())
    main()
