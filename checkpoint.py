"""Checkpoints: a model, the settings that made it, and where its training stood, in one file.

    network = checkpoint.load("out/run")       # best.pt, or ckpt.pt where no best was kept

A checkpoint holds tensors and plain data only: nothing in it is ever executed. It is whole or not
there at all, whenever a process or a machine dies. The settings inside it are the ones that count;
config.json beside it is for people. Before this: model.py.
"""

import contextlib
import csv
import glob
import io
import os
import sys
import zipfile
from dataclasses import asdict

import torch

import checks
import files
import worlds
from data import Factor
from model import ModelConfig, build

try:
    import fcntl
except ImportError:  # Windows, where nothing keeps two runs out of one folder
    fcntl = None

# What a checkpoint that somebody has changed can raise while it is taken apart.
DAMAGE = (LookupError, TypeError, AttributeError, RuntimeError)


def load(path, device="cpu"):
    """The model saved in a checkpoint file, or in an out_dir of train.py, in eval mode.

    Raises ValueError, in one sentence, if there is none or if it is damaged.
    """
    checks.device(device)
    saved = read(path)
    try:
        return from_plain(saved).to(device).eval()
    except ValueError as error:
        raise ValueError(f"{path}: {str(error)[:200]}") from None


def read(path):
    """What save() wrote, a dictionary. path: a file, or an out_dir. Raises ValueError as load()."""
    if os.path.isdir(path):
        best = os.path.join(path, "best.pt")
        path = best if os.path.exists(best) else os.path.join(path, "ckpt.pt")
    if not os.path.isfile(path):  # to read a pipe would be to wait
        raise ValueError(f"there is no checkpoint {path}: train.py makes one in its --out_dir")
    with files.reading(path, "checkpoint"):
        with zipfile.ZipFile(path) as file:
            if damaged := file.testzip():  # torch.load takes flipped bits as they are
                raise ValueError(f"the checksum of its part {damaged} is wrong")
        saved = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(saved, dict) or not isinstance(saved.get("model_config"), dict):
        raise ValueError(f"{path} is not a checkpoint that train.py saved")
    return saved


def settings(path):
    """The settings of train.py in the run that saved a checkpoint. Raises ValueError as load()."""
    config = read(path).get("config")
    needed = {"dataset": str, "num_trajectories": int, "data_seed": int}
    whole = isinstance(config, dict)
    if not whole or any(type(config.get(name)) is not kind for name, kind in needed.items()):
        raise ValueError(f"{path} does not hold the settings that it was trained with")
    return config


def save(path, content):
    """Write a dictionary of tensors and plain data: path is then whole, or as it was before."""
    buffer = io.BytesIO()  # of a full disk write() raises an OSError, and torch.save does not
    torch.save(content, buffer)
    with files.whole(path) as unfinished, open(unfinished, "wb") as file:
        file.write(buffer.getbuffer())


def to_plain(network):
    """What a checkpoint needs to rebuild a model, as tensors and plain data."""
    return {
        "model_config": asdict(network.config),
        "factors": [asdict(factor) for factor in network.factors],
        "weights": network.state_dict(),
    }


def from_plain(saved):
    """The model of a checkpoint's dictionary. Raises ValueError if its parts do not fit."""
    try:
        factors = [Factor.from_plain(plain) for plain in saved["factors"]]
        config = ModelConfig(**saved["model_config"])
        checks.size(asdict(config))
        network = build(config, factors)
        network.load_state_dict(saved["weights"])
    except DAMAGE as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"it does not describe a model of this code: {reason}") from None
    if not all(p.isfinite().all() for p in network.parameters()):
        raise ValueError("its weights are not finite (NaN or infinity)")
    return network


# --------------------------------------------------------------------------------------------------
# The folder of a run: ckpt.pt, best.pt, config.json and log.csv belong together

RUN = ("ckpt.pt", "best.pt", "log.csv", "config.json", "eval.json", "rollouts.json")
GO_ON = "go on with the same command and --init_from=resume"
MAY_DIFFER = (  # settings in which a resumed run may differ from the one that stopped
    "init_from", "out_dir", "overwrite", "device", "compile", "wandb_log", "wandb_project",
    "threads", "max_iters",
)  # fmt: skip


def start_of(init_from, out_dir, rank=0):
    """The checkpoint that a run starts from, as read() gives it; None for one from scratch."""
    if init_from == "resume":
        if rank == 0:
            lock(out_dir)
        return read(os.path.join(out_dir, "ckpt.pt"))
    if init_from.startswith("finetune:"):
        return read(init_from.removeprefix("finetune:"))
    if init_from != "scratch":
        raise ValueError(f"init_from={init_from!r} is not one of scratch, resume, finetune:PATH")
    return None


def claim(out_dir, overwrite, init_from="scratch"):
    """Raise ValueError if a folder holds another run, unless its files may be lost.

    What a run finetunes from may never be lost.
    """
    files.check_writable(os.path.join(out_dir, "ckpt.pt"))
    used = [name for name in RUN if os.path.exists(os.path.join(out_dir, name))]
    if used and not overwrite:
        advice = "take another --out_dir, --init_from=resume or --overwrite=True"
        raise ValueError(f"{out_dir} holds another run ({used[0]}): {advice}")
    source = init_from.removeprefix("finetune:")
    here, start = os.path.realpath(out_dir), os.path.realpath(source)
    if init_from != "scratch" and here in (start, os.path.dirname(start)):
        raise ValueError(f"a run cannot finetune {source} in its own folder: take another out_dir")


def begin(out_dir, overwrite):
    """Make the folder of a new run, take it, and remove the files of an older one."""
    os.makedirs(out_dir, exist_ok=True)
    lock(out_dir)
    claim(out_dir, overwrite)  # another run may have come and gone since the settings were checked
    for name in RUN:
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(out_dir, name))


def lock(out_dir):
    """Take a folder for this process, until it ends. Raises ValueError if a run is on there."""
    if fcntl and os.path.isdir(out_dir):
        folder = os.open(out_dir, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another run is on in {out_dir}: take another --out_dir") from None
        except OSError:  # some disks on a network know no locks
            return
        for name in RUN[:4]:  # what a run that was killed left unfinished
            for path in glob.glob(os.path.join(glob.escape(out_dir), f"{name}.*tmp")):
                with contextlib.suppress(OSError):
                    os.remove(path)


def save_run(out_dir, plain, state, with_best):
    """Write best.pt if asked, then what people read, and ckpt.pt last.

    plain: what best.pt holds; state: what a run needs beside it to go on, with the rows of log.csv.
    """
    log = io.StringIO()
    writer = csv.DictWriter(log, state["rows"][0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(state["rows"])
    try:
        if with_best:
            save(os.path.join(out_dir, "best.pt"), plain)
        files.save_json(os.path.join(out_dir, "config.json"), plain["config"])
        files.save_text(os.path.join(out_dir, "log.csv"), log.getvalue())
        save(os.path.join(out_dir, "ckpt.pt"), plain | state)
    except OSError as error:
        raise OSError(f"{error}{how_to_go_on(out_dir)}") from None


def how_to_go_on(out_dir):
    """What to do after a run has failed, if it has come to a checkpoint."""
    if not os.path.exists(os.path.join(out_dir, "ckpt.pt")):
        return ""
    return f"; the last checkpoint is whole: {GO_ON}"


def stopped(it, number):
    """End this process: a signal of this number has stopped a run, which is saved."""
    print(f"stopped at step {it} and saved (best.pt is older); {GO_ON}", file=sys.stderr)
    sys.exit(128 + number)


def architecture(saved, config, given):
    """{name: value} of the settings that a saved model decides: all but dropout, and a
    return_weight that was given, if it predicts returns.

    Raises ValueError if one of them was given (a set of names) and contradicts it.
    """
    try:
        # older models lack the newest settings
        shape = asdict(ModelConfig(**saved["model_config"]))
    except TypeError as error:
        text = f"the checkpoint of init_from={config['init_from']} has settings of no model"
        raise ValueError(f"{text}: {error}") from None
    del shape["dropout"]
    if shape["return_weight"] and "return_weight" in given and config["return_weight"]:
        del shape["return_weight"]  # of the loss: all that the model needs is to predict returns
    for name, value in shape.items():
        if name in given and config[name] != value:
            text = f"{name}={config[name]!r} contradicts the model of init_from"
            raise ValueError(f"{text}={config['init_from']}, which has {name}={value!r}")
    return shape


def check_start(saved, config):
    """Raise ValueError if a run would be validated by what its start was trained on."""
    before, world = saved.get("config"), worlds.WORLDS.get(config["dataset"])
    if not world or not isinstance(before, dict) or before.get("fresh"):
        return
    same = all(before.get(name) == config[name] for name in ("dataset", "data_seed"))
    theirs, ours = before.get("num_trajectories", 0), config["num_trajectories"]
    if same and theirs > worlds.first_held_out(world, ours):
        text = f"{config['init_from']} was trained on trajectories that validate this run"
        raise ValueError(f"{text}: take num_trajectories={theirs}, or another data_seed")


def check_resumable(saved, config):
    """Raise ValueError unless a run with these settings can go on from what it saved."""
    out_dir = config["out_dir"]
    if not isinstance(saved.get("config"), dict) or "optimizer" not in saved:
        raise ValueError(f"{out_dir} holds no state to resume, only weights to finetune from")
    for name, value in saved["config"].items():
        if name not in MAY_DIFFER and config.get(name) != value:
            text = f"cannot resume {out_dir} with {name}={config.get(name)!r}"
            raise ValueError(f"{text}: it was started with {value!r}; take the same command")
    kinds = {"iter": int, "rows": list, "best": float, "loss_sum": float, "loss_count": int}
    for name, kind in kinds.items():
        if type(saved.get(name)) is not kind or name == "rows" and not saved[name]:
            raise ValueError(f"cannot resume {out_dir}: its checkpoint has no {name}")


def restore(saved, optimizer, evaluated):
    """Put the optimiser, and the weights that are evaluated, where they were when a run was saved.

    Returns what else it needs: the step, the rows of its log, the best score, a sum and count of
    losses. Raises ValueError if the parts do not fit the model.
    """
    try:
        optimizer.load_state_dict(saved["optimizer"])
        for p, state in optimizer.state.items():
            if any(x.shape != p.shape for name, x in state.items() if name.startswith("exp_avg")):
                raise ValueError("its optimiser is that of another model")
        evaluated.load_state_dict(saved["weights"])
        list(saved["rows"][-1])  # the columns
        return tuple(saved[x] for x in ("iter", "rows", "best", "loss_sum", "loss_count"))
    except (ValueError, *DAMAGE) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"the checkpoint to resume is not whole: {reason}") from None


def check_data(before, fingerprint, dataset):
    """Raise ValueError if a file of trajectories is not the one that a run was started with."""
    if before not in (None, fingerprint):
        raise ValueError(
            f"{dataset} has changed since this run began: they belong together no more"
        )


def open_run(path, device="cpu"):
    """The model of a run, and the settings of its training: for scripts that ask about its data.

    Raises ValueError as load(), and if their file has changed: training data may be test data now.
    """
    network, trained = load(path, device), settings(path)
    if trained["dataset"] not in worlds.WORLDS:
        parts = worlds.train_and_validation(*worlds.source_of(trained))
        saved, now = read(path), worlds.fingerprint(trained["dataset"], *parts)
        # older runs lack "demonstrations": "data" was the same, but for dreams
        older = None if trained.get("dreams") else saved.get("data")
        check_data(saved.get("demonstrations", older), now, trained["dataset"])
    return network, trained
