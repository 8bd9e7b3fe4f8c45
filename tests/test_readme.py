"""What the texts say is so: their commands and code run, with tiny models, and their links lead somewhere."""

import configurator

import ast
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import warnings
from functools import partial

import gymnasium
import numpy as np
import pytest
import torch
from conftest import ROOT
from runs import good, read_log

import masks
import worlds

TEXTS = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in ("README.md", "repro/README.md", "assets/README.md")
}
PYTHON = re.findall(r"```python\n(.*?)```", TEXTS["README.md"], re.DOTALL)
MAZE = bool(importlib.util.find_spec("d4rl"))


def commands(text):
    """The commands in a Markdown text: in its blocks, and between backticks, over line ends too."""
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in re.split(r"\n| && ", block)]
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    lines += [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]
    lines = [re.split(r"\s#| > ", line)[0].strip() for line in lines]
    program = r"""([A-Z]+=("[^"]*"|\S+) )*(python|torchrun|bash|make) [\w/.-]+"""
    return list(dict.fromkeys(line for line in lines if re.match(program, line)))


MEANT = {"config/x.py": "config/minigrid_random.py", "--key=value": "--seed=1"}
MEANT |= {"--out_dir=assets/NAME": "--out_dir=assets/minigrid_infinite"}
MEANT |= {"--device=cuda": "--device=cpu"}


def meant(line):
    """A command with something in the place of what only stands for something."""
    return " ".join(MEANT.get(word, word) for word in line.split(" "))


PLAIN = {  # command lines of the texts, but for those in assets/README.md, which take hours
    meant(line): name for name in ("README.md", "repro/README.md") for line in commands(TEXTS[name])
}
SHELL = [line for line in PLAIN if re.search(r"\bbash ", line)]
SHELL = list(dict.fromkeys(line.replace("LIST=1 ", "") for line in SHELL))
MAKE = [line for line in PLAIN if line.startswith("make ")]
RUN = [line for line in PLAIN if re.match("python|torchrun", line) and "repro/run.py" not in line]


# ---- every command that is written anywhere: its script and its settings are there -----------------


def settings_of(script):
    """A script's settings and their defaults: the globals below the line that says so."""
    text = (ROOT / script).read_text(encoding="utf-8")
    section = re.search(r"^# -+ settings -+$(.*?)^# -{20,}$", text, re.DOTALL | re.MULTILINE)
    values = {}
    for statement in ast.parse(section[1]).body if section else ():
        values[statement.targets[0].id] = ast.literal_eval(statement.value)
    return values | (
        settings_of("train.py") if script in ("repro/run.py", "train_seeds.py") else {}
    )


def check_flags(line):
    """Assert that a command's script and config files exist, and that it has the settings."""
    words = shlex.split(line.replace("{seed}", "0"))  # which stands for each of several
    words = words[words.index(next(word for word in words if word.endswith(".py"))) :]
    assert (ROOT / words[0]).exists(), line
    flags = [str(ROOT / word) if word.startswith("config/") else word for word in words[1:]]
    settings = settings_of(words[0])
    if settings and not {"-h", "--help"} & set(flags):
        configurator.override(settings, flags)


def documented():
    """{file: its commands} of all texts, and of the docstrings of all scripts and configs."""
    found = {name: commands(text) for name, text in TEXTS.items()}
    for path in [*ROOT.glob("*.py"), *ROOT.glob("config/*.py"), *ROOT.glob("repro/*.py")]:
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        lines = [line.strip() for line in re.split(r"\n| && ", docstring)]
        lines = [re.split(r"\s#", line)[0].strip() for line in lines]
        found[str(path.relative_to(ROOT))] = [
            x for x in lines if re.match(r"(python|torchrun) ", x)
        ]
    return found


def test_the_commands_in_all_texts_and_docstrings_have_settings_that_exist():
    found = documented()
    assert sum(map(len, found.values())) > 100
    for name, lines in found.items():
        for line in lines:
            if ".py" in line and "corridor.py" not in line and "A,B" not in line:
                try:
                    check_flags(meant(line))
                except ValueError as error:
                    raise AssertionError(f"{name}: {line}: {error}") from None


@pytest.mark.parametrize("line", SHELL)
def test_a_shell_script_lists_lines_that_would_run(line):
    """tests/test_repro.py runs them, tiny."""
    words = shlex.split(line)
    variables, script = words[: words.index("bash")], words[words.index("bash") :]
    chosen = dict(variable.split("=", 1) for variable in variables) | {"LIST": "1"}
    options = {"cwd": ROOT, "env": {"PATH": os.environ["PATH"]} | chosen}
    process = subprocess.run(script, capture_output=True, text=True, **options)
    lines = good(process).stdout.splitlines()
    lines = [line.rpartition(" || ")[2] for line in lines]  # "is it there || make it"
    known = r"python (repro/run|repro/generality|dream)\.py --"
    assert lines and all(re.match(known, line) for line in lines)
    for line in lines:
        check_flags(line)


def test_a_line_of_a_recipe_is_one_that_its_script_lists():
    [line] = [line for line in PLAIN if "repro/run.py" in line]
    check_flags(line)
    study = re.search("--study=([a-z0-9]+)_", line)[1]
    script = (ROOT / "repro" / f"{study}.sh").read_text(encoding="utf-8")
    assert re.search(r"--row=(\w+)", line)[1] in script


# ---- the commands of the READMEs run ---------------------------------------------------------------

TINY = (
    "--num_trajectories=16 --n_embd=16 --n_ff=16 --n_layer=1 --n_head=2 --batch_size=16 --max_iters=1 "
    "--eval_interval=1 --eval_sequences=10 --threads=1"
).split()
MORE = {  # script: what makes it quick
    "train.py": TINY,
    "evaluate.py": ["--sequences=10"],
    "sample.py": ["--samples=4"],
    "rollout.py": ["--episodes=2"],
    "bench.py": "--measure=steps --configurations=doorkey --repetitions=2".split(),
    "repro/rollouts.py": ["--episodes=16", "--picture=out/rollouts.png"],
    "repro/sampling.py": (
        "--trajectories=2 --per_trajectory=1 --samples=8 --speed_samples=4 --result=out/sampling "
        "--threads=1"
    ).split(),
}


ASKING = ("evaluate.py", "rollout.py", "sample.py", "plot.py", "page.py", "film.py")  # of a model


def quick(script):
    """The flags that make a script quick."""
    return [flag for flag in MORE.get(script, ()) if flag[2:].split("=")[0] in settings_of(script)]


class Place:
    """A folder with files to import, in which tiny models appear wherever a text has trained one."""

    def __init__(self, folder, run_warm):
        self.folder, self.run_warm = folder, run_warm
        shutil.copytree(ROOT / "config", folder / "config")
        (folder / "assets").mkdir()  # where bench.py writes
        rng = np.random.default_rng(0)
        ends = np.arange(600) % 25 == 24
        self.steps = {
            "observations": rng.normal(size=(600, 11)).astype("f4"),
            "actions": rng.uniform(-1, 1, (600, 3)).astype("f4"),
            "rewards": np.ones(600),
            "terminals": ends,
        }
        flat = {"actions": rng.integers(0, 2, 600), "episode_ends": np.flatnonzero(ends) + 1}
        flat |= {"observations": self.steps["observations"][:, :4], "rewards": np.ones(600)}
        np.savez(folder / "flat.npz", **flat)
        world, _ = (next(text for text in PYTHON if key in text) for key in WRITTEN)
        (folder / "corridor.py").write_text(world, encoding="utf-8")

    def run(self, script, *flags):
        inside = small_mazes if MAZE else None
        script = self.folder / script if script == "corridor.py" else script
        return good(self.run_warm(script, *flags, cwd=self.folder, inside=inside))

    def need(self, name):
        """Make a file or a model that a text takes for granted, if it is not there."""
        if (self.folder / name).exists():
            return
        if name == "hopper_medium-v2.hdf5":
            h5py = pytest.importorskip("h5py")
            with h5py.File(self.folder / name, "w") as file:
                for key, array in self.steps.items():
                    file[key] = array
        elif name.startswith("minari:"):
            self.make_minari(name.removeprefix("minari:"))
        elif name == "corridor.npz":
            self.run("corridor.py")
        elif name == "mine.npz":
            self.run("importing.py", "--source=flat.npz", "--out=mine.npz")
        elif name == "out/hopper.npz":
            self.need("hopper_medium-v2.hdf5")
            self.run("importing.py", "--source=hopper_medium-v2.hdf5", "--out=out/hopper.npz")
        else:
            self.run("train.py", *TINY, f"--out_dir={name}", *self.data_of(name))

    def make_minari(self, name):
        """The same episodes as a local data set of Minari."""
        minari = pytest.importorskip("minari")
        from minari.data_collector import EpisodeBuffer

        if os.path.exists(os.path.join(os.environ["MINARI_DATASETS_PATH"], name)):
            return
        boxes = [gymnasium.spaces.Box(-9, 9, (k,)) for k in (11, 3)]
        episodes = []
        for first in range(0, 600, 25):
            seen, actions, rewards = (
                self.steps[key][first : first + 25]
                for key in ("observations", "actions", "rewards")
            )
            flags = {"terminations": [False] * 25, "truncations": [False] * 24 + [True]}
            seen = np.concatenate([seen, seen[-1:]])
            episodes.append(EpisodeBuffer(None, None, None, seen, actions, list(rewards), **flags))
        spaces = dict(zip(("observation_space", "action_space"), boxes))
        with warnings.catch_warnings(action="ignore"):
            minari.create_dataset_from_buffers(name, episodes, **spaces)

    def data_of(self, out_dir):
        """The flags that name the data of a model, to judge by the name of its folder."""
        if "maze2d" in out_dir:
            return ["--dataset=maze2d-umaze", "--context=5"]
        if "dream" in out_dir:  # whose modes need a model that predicts returns
            return ["--task=random_return+all", "--return_weight=1"]
        for word, dataset in (
            ("corridor", "corridor.npz"),
            ("cartpole", "mine.npz"),
            ("locomotion", "out/hopper.npz"),
        ):
            if word in out_dir:
                self.need(dataset)
                return [f"--dataset={dataset}"]
        return []


WRITTEN = ("from data import Factor", "def every_other")


def small_mazes():
    """In the process that calls it: a thousand episodes of each maze would take seconds to make."""
    for name, world in worlds.WORLDS.items():
        if name.startswith("maze2d"):
            worlds.WORLDS[name] = world._replace(
                total=26, validation=8, test=8, environment=partial(short, world.environment)
            )


def short(environment, n, seed):
    """n episodes that are over soon."""
    env = environment(n, seed)
    env.horizon = 10
    return env


@pytest.fixture(scope="module")
def place(tmp_path_factory, run_warm):
    if MAZE:
        worlds.environment("maze2d-umaze", 1, 0)  # its slow imports, once for all
    return Place(tmp_path_factory.mktemp("readme"), run_warm)


@pytest.mark.parametrize("line", RUN)
def test_a_command_runs(line, place, monkeypatch):
    words = shlex.split(line)
    script = next(word for word in words if word.endswith(".py"))  # also after torchrun
    flags = words[words.index(script) + 1 :]
    if "maze2d" in line and not MAZE:
        pytest.skip("d4rl is not installed (requirements-maze.txt)")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(place.folder / "minari"))
    if "every_other" in line:
        monkeypatch.setitem(masks.TASKS, "every_other", every_other())
    given = dict(flag.split("=", 1) for flag in flags if "=" in flag)
    for name in (given.get("--dataset", ""), given.get("--source", "")):
        if name.endswith((".npz", ".hdf5")) or name.startswith("minari:"):
            place.need(name)
    if script == "train.py":
        flags = settle(flags, given, place)
    elif script in ASKING or "repro" in script:
        place.need(given.get("--out_dir", "out/run"))
    made = ("figures", "claims", "acting", "acting_maze2d", "dreaming", "pendulum")
    if script in [f"repro/{name}.py" for name in made]:
        pytest.skip("it takes what scripts have trained: test_repro.py and test_studies.py run it")
    if "--env=Hopper-v5" in flags:
        pytest.importorskip("mujoco")
    place.run(script, *flags, *quick(script))


def settle(flags, given, place):
    """A training command of a text in a folder of its own, with what it starts from."""
    out_dir = given.get("--out_dir", "out/trained")
    if given.get("--init_from") == "resume":
        out_dir = "out/resumed"
        place.need(out_dir)
    else:
        flags = [*flags, "--overwrite=True"]
    if given.get("--init_from", "").startswith("finetune:"):
        place.need(given["--init_from"].removeprefix("finetune:"))
    configs = [word for word in flags if not word.startswith("--")]
    if "config/locomotion.py" in configs:
        place.need("out/hopper.npz")
    if "config/minigrid_queries.py" in configs:
        place.need("assets/minigrid_infinite")
    if any("maze2d" in name for name in configs):
        flags += ["--eval_rollouts=2"]
    return [*flags, f"--out_dir={out_dir}"]


@pytest.mark.parametrize("target", ["demo", "demo-maze"])
def test_make_runs_its_commands_and_may_be_asked_again(target, place):
    if target == "demo-maze" and not MAZE:
        pytest.skip("d4rl is not installed (requirements-maze.txt)")
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", text, re.MULTILINE)[1]
    lines = re.findall(r"\$\(BIN\)/python (.*)", recipe)
    assert lines[0].startswith("train.py ")
    for line in [*lines, lines[0]]:
        script, *flags = shlex.split(line)
        few = ["--eval_rollouts=2"] if "maze" in target and script == "train.py" else []
        place.run(script, *flags, *quick(script), *few)


@pytest.mark.parametrize("line", MAKE)
def test_a_target_of_make_is_there(line):
    target = re.escape(line.split()[1])
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("text", [text for text in PYTHON if "load(" in text])
def test_a_block_of_python_runs(text, place, monkeypatch, capsys):
    for name in re.findall(r'load\("([^"]+)"\)', text):
        place.need(name)
    monkeypatch.chdir(place.folder)
    exec(compile(text, "README.md", "exec"), {})
    assert capsys.readouterr().out


# ---- what they show --------------------------------------------------------------------------------


def every_other():
    """The task of the section on masks, defined as it stands there."""
    text = next(text for text in PYTHON if "def every_other" in text)
    names = {"TASKS": {}}
    exec(text, names)
    return names["TASKS"]["every_other"]


def test_the_mask_of_the_text_is_short_and_does_what_it_says(place):
    text = next(text for text in PYTHON if "def every_other" in text)
    assert len(text.splitlines()) <= 10
    see, predict = every_other()(masks.Batch(3, 5, torch.Generator(), False))
    known = torch.tensor([True, False, True, False, True])
    assert torch.equal(see[..., 0], known.expand(3, 5))
    assert torch.equal(predict[..., 0], ~known.expand(3, 5))
    assert not see[..., 1:].any() and predict[..., 1].all()


def test_training_on_the_mask_of_the_text_measures_it(place, monkeypatch):
    monkeypatch.setitem(masks.TASKS, "every_other", every_other())
    place.run("train.py", *TINY, "--task=every_other", "--out_dir=out/every_other")
    assert "every_other" in read_log(place.folder / "out" / "every_other")[0]


def test_the_masks_drawn_are_masks_of_their_tasks():
    """Each drawing is one that a task makes; of the random one, all that is hidden is asked for."""
    block = next(
        text for text in re.findall(r"```\n(.*?)```", TEXTS["README.md"], re.DOTALL) if "?" in text
    )
    first, *rows = block.strip().splitlines()
    titles = re.split(r"\s{3,}", first)
    parts = [re.findall(r"([a-z]+)\s+((?:[#?.] ?){10})", row) for row in rows]
    names = {"behavior cloning": "behavior_cloning", "return-conditioned": "reward_conditioned"}
    assert len(titles) == 4
    for column, title in enumerate(titles):
        assert [row[column][0] for row in parts] == ["state", "action", "return"]
        marks = np.array([row[column][1].split() for row in parts])  # (3, 10)
        drawing = torch.tensor(marks.T == "#"), torch.tensor(marks.T == "?")
        if title == "random":
            assert torch.equal(drawing[1][:, :2], ~drawing[0][:, :2])
            continue
        task = names.get(title, title)
        drawn = masks.draw(task, 50, 10, torch.Generator().manual_seed(0), balanced=True)
        match = [(ours == one).flatten(1).all(1) for ours, one in zip(drawn, drawing)]
        assert (match[0] & match[1]).any(), title


def test_links_and_pictures_lead_somewhere():
    for name, text in TEXTS.items():
        for target in re.findall(r"\]\(([^)]+)\)", text):
            path, _, heading = target.partition("#")
            if target.startswith("https://"):
                continue
            file = (ROOT / name).parent / path if path else ROOT / name
            assert file.exists(), f"{name}: {target}"
            if heading:
                titles = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
                assert heading in {t.lower().replace(" ", "-") for t in titles}, f"{name}: {target}"


def test_the_table_of_files_is_whole():
    listed = set(re.findall(r"`(\w+\.py)`", TEXTS["README.md"].partition("## The files")[2]))
    assert {path.name for path in ROOT.glob("*.py")} <= listed


@pytest.mark.parametrize("script", sorted(path.name for path in ROOT.glob("*.py")))
def test_help_prints_every_setting(script, run_warm, tmp_path):
    settings = settings_of(script)
    text = (ROOT / script).read_text(encoding="utf-8")
    if "configurator.apply(globals())" not in text:
        return
    process = good(run_warm(script, "--help", cwd=tmp_path))
    assert all(f"--{name}=" in process.stdout for name in settings)
    assert not list(tmp_path.iterdir())


def test_what_is_said_of_acting_was_measured():
    found = json.loads((ROOT / "repro/results/act_doorkey.json").read_text(encoding="utf-8"))
    large, text = found["agents"]["dream_large"], " ".join(TEXTS["README.md"].split())
    earned = [f"{large['asked'][target]:.2f}" for target in ("2", "4", "6")]
    assert f"DoorKey allows {found['optimum']:.2f}" in text
    assert f"asked for 2, 4 or 6, earns {earned[0]}, {earned[1]} or {earned[2]}" in text
    best = f"{large['best_sampled']:.2f}, by most probable actions {large['best']:.2f}"
    assert f"Asked for the best that it thinks possible: {best}" in text
