"""The commands of sample.py and plot.py: real questions, pictures, and mistakes in one line."""

import runpy
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

import checkpoint
import doorkey
import maze2d
import model
import plot
from data import Trajectories, normalise

SMALL = dict(n_embd=32, n_ff=32, n_layer=1, n_head=2)


def save_run(folder, dataset, trajectories, **config):
    """An out_dir with an untrained model: these tests are not about what a model has learned."""
    torch.manual_seed(0)
    config = model.ModelConfig(**SMALL | config)
    plain = checkpoint.to_plain(model.build(config, normalise(trajectories).factors))
    settings = {"dataset": str(dataset), "num_trajectories": 0, "data_seed": 0}
    folder.mkdir()
    checkpoint.save(str(folder / "best.pt"), plain | {"config": settings, "iter": 0})
    return folder


def renamed(trajectories):
    """The same data, of no world, with another name for the action."""
    names = {"action": "move"}
    factors = [replace(f, name=names.get(f.name, f.name)) for f in trajectories.factors]
    values = {names.get(name, name): array for name, array in trajectories.values.items()}
    return Trajectories(factors, values)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """{name: out_dir} of untrained models."""
    here = tmp_path_factory.mktemp("sample")
    demonstrations = doorkey.make_dataset(40, seed=0)
    found = {"doorkey": save_run(here / "doorkey", "doorkey", demonstrations)}
    found["worth"] = save_run(here / "worth", "doorkey", demonstrations, return_weight=1.0)
    found["dt"] = save_run(here / "dt", "doorkey", demonstrations, model_type="dt")
    own = renamed(demonstrations)
    own.save(str(here / "own.npz"))
    found["own"] = save_run(here / "own", here / "own.npz", own, head="gaussian")
    found["late"] = save_run(here / "late", "doorkey", demonstrations, positions="timestep")
    film = replace(own, values=own.values | {"move/known": np.arange(10) * np.ones((40, 1)) > 2})
    film.save(str(here / "film.npz"))
    found["film"] = save_run(here / "film", here / "film.npz", film)
    try:
        episodes = maze2d.make_dataset(20, seed=0, maze="umaze")
    except ValueError:
        return found  # Maze2D is not installed
    episodes.save(str(here / "maze.npz"))
    found["maze"] = save_run(here / "maze", here / "maze.npz", episodes, context=5)
    return found


@pytest.fixture
def command(monkeypatch, capsys):
    """command(*flags): run a script's main in this process, for speed; returns what it prints."""

    def call(*flags, script="sample.py"):
        monkeypatch.setattr(sys, "argv", [script, *map(str, flags)])
        monkeypatch.setattr(sys, "excepthook", sys.excepthook)
        runpy.run_path(str(ROOT / script), run_name="__main__")
        return capsys.readouterr().out

    return call


def test_a_question_is_answered_and_drawn(runs, command, tmp_path):
    out = command(
        f"--out_dir={runs['doorkey']}",
        "--trajectory=17",
        "--see=state[0], state[9]",
        "--predict=action[:],state[1:9]",
        "--exact",
        "--samples=7",
        "--order=confidence",
        f"--picture={tmp_path}/a/goal.png",
    )
    assert "7 joint samples, mean log-probability" in out and "transitions are valid" in out
    assert "agent_pos[8]" in out and "agent_pos[9]" not in out and "exact:" in out
    with Image.open(tmp_path / "a" / "goal.png") as picture:
        assert picture.width > 1000 and len(picture.convert("RGB").getcolors(2**24)) > 50
    command(f"--out_dir={runs['doorkey']}", "--task=past", "--samples=0")
    assert (runs["doorkey"] / "answer.png").exists()


def test_episodes_are_played_and_animated(runs, command, tmp_path):
    line = [f"--out_dir={runs['doorkey']}", "--given=agent_pos[0]=5,key_pos[0]=2", "--see=state[9]"]
    line += ["--world", "--samples=9", f"--picture={tmp_path}/walk.gif"]
    command(*line, "--horizon=3")  # shorter than what is asked
    out = command(*line, "--horizon=12")
    assert "9 completions with the world's own dynamics" in out
    assert "100.00% of their transitions" in out and "met key_pos[9]" in out
    assert "100.0% of them met agent_pos[0]" in out
    with Image.open(tmp_path / "walk.gif") as picture:
        assert picture.n_frames == 10
    assert not list(tmp_path.glob("**/*.tmp*")), "pictures are renamed when whole"


@pytest.mark.parametrize("flags", [[], ["--order=backward"], ["--exact"]])
def test_a_model_that_predicts_returns_is_asked_for_one(runs, command, flags):
    out = command(f"--out_dir={runs['worth']}", "--samples=3", "--predict=return[0]", *flags)
    assert "3 joint samples, mean log-probability" in out and "return_to_go[0]" in out
    assert "return_to_go[1]" not in out and "agent_pos" not in out
    with pytest.raises(ValueError, match="not return_to_go"):  # one that does not refuses
        command(f"--out_dir={runs['doorkey']}", "--task=return_to_go")


def test_questions_in_the_maze(runs, command, tmp_path):
    if "maze" not in runs:
        pytest.skip("Maze2D is not installed")
    where, future, fan = f"--out_dir={runs['maze']}", tmp_path / "future.png", tmp_path / "fan.gif"
    window = ("--trajectory=1", "--start=40", "--samples=3")
    out = command(where, *window, "--task=future", f"--picture={future}")
    assert "3 joint samples\n" in out and "wrote" in out
    with Image.open(future) as picture:
        assert len(picture.convert("RGB").getcolors(2**24)) > 50
    out = command(where, "--predict=action[:]", "--samples=2", f"--picture={future}")
    assert "no picture: no position is seen" not in out, "what happened is drawn"
    out = command(where, "--predict=action[:]", "--given=action[0]=(1,0)", "--samples=2")
    assert "no picture: no position is seen" in out
    start = "--given=position[0]=(1,1.1),goal[0]=(3,1)"
    out = command(where, start, "--world", "--samples=4", "--horizon=15", f"--picture={fan}")
    assert "4 completions with the world's own dynamics" in out
    assert "missed position[0] by 0.000" in out
    with Image.open(fan) as picture:
        assert picture.n_frames > 5
    with pytest.raises(ValueError, match="wall"):
        command(where, "--given=position[0]=(0,0),goal[0]=(3,1)", "--world")


def test_data_of_no_world_is_answered_without_a_picture(runs, command):
    out = command(f"--out_dir={runs['own']}", "--see=state[0]", "--samples=5")
    assert "5 joint samples, mean log-probability" in out and "move[9]" in out
    assert "no picture" in out and "valid" not in out
    for flag, reason in (("--exact", "exact"), ("--world", "no world to play in")):
        with pytest.raises(ValueError, match=reason):
            command(f"--out_dir={runs['own']}", "--see=state[0]", flag)


def test_decision_gpt_answers_what_it_can(runs, command):
    where = f"--out_dir={runs['dt']}"
    out = command(where, "--see=state[:4],action[:3]", "--predict=action[3]", "--samples=3")
    assert "3 joint samples" in out and "action[3]" in out
    out = command(where, "--see=state[0]", "--world", "--samples=3")
    assert "3 completions" in out and "action[9]" in out
    for flags, reason in [
        (["--see=state[:4]"], "looks only back"),
        (["--see=state[9]", "--predict=action[3]"], "looks only back"),
        (["--see=state[9]", "--predict=action[3]", "--samples=0"], "looks only back"),
        (["--see=state[0],state[9]", "--world"], "looks only back"),
        (["--predict=state[3]", "--samples=0"], "not agent_pos"),
    ]:
        with pytest.raises(ValueError, match=reason):
            command(where, *flags)


@pytest.mark.parametrize(
    "flag, reason",
    [
        ("--see=stat[0]", "did you mean 'state'"),
        ("--given=agent_pos[0]=99", "from 0 to 15"),
        ("--given=agent_pos[0]=3,agent_pos[-10]=4", "another value"),
        ("--trajectory=5000", "below 1000"),
        ("--start=3", "start=3"),
        ("--order=sideways --samples=0", "confidence"),
        ("--unit=word --samples=0", "group"),
        ("--picture=a.jpg", ".png"),
        ("--world", "known state"),
        ("--world --see=state[0] --start=1", "start"),
        ("--world --see=state[0] --env=NoSuchEnv-v0", "NoSuchEnv"),
        ("--samples=-1", "samples=-1"),
        ("--temperature=-1 --samples=0", "temperature"),
        ("--temperature=nan", "temperature"),
        ("--horizon=-1 --world --see=state[0]", "horizon"),
        ("--horizon=5", "--world"),
        ("--env=Hopper-v5", "--world"),
        ("--seed=-1", "seed"),
        ("--given=agent_pos[0]=15,key_pos[0]=2 --world", "no episode begins"),
    ],
)
def test_mistakes_on_the_command_line(runs, command, flag, reason):
    with pytest.raises(ValueError, match=reason):
        command(f"--out_dir={runs['doorkey']}", *flag.split())


def test_a_mistake_is_one_line(runs, run, refused, tmp_path):
    flags = f"--out_dir={runs['doorkey']}", "--see=state[0],stat[9]"
    line = refused(run("sample.py", *flags, cwd=tmp_path))
    assert "character 10" in line and "did you mean 'state'" in line and "example" in line
    assert not list(tmp_path.iterdir())


# --------------------------------------------------------------------------------------------------
# plot.py


LOG = "iter,lr,train_loss,past,return_bc,past_gap\n0,0.1,,7.0,0.5,2.7\n10,0.1,5,5.5,1.5,1.2\n"


def test_curves_of_several_runs(command, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "log.csv").write_text(LOG)
    both = f"--out_dir={tmp_path}/one,{tmp_path}/two"
    assert "wrote" in command("--figure=curves", both, script="plot.py")
    assert (tmp_path / "one" / "curves.png").stat().st_size > 5000
    assert not (tmp_path / "two" / "curves.png").exists()


def test_the_posterior_of_a_trajectory(runs, command):
    flags = "--figure=posterior", f"--out_dir={runs['doorkey']}"
    assert "wrote" in command(*flags, script="plot.py")
    with Image.open(runs["doorkey"] / "posterior.png") as picture:
        assert picture.width > 1000


def test_of_decision_gpt_its_actions_are_drawn(runs, command):
    flags = "--figure=posterior", f"--out_dir={runs['dt']}", "--task=behavior_cloning"
    assert "wrote" in command(*flags, script="plot.py")
    see = ["--see=state[:3],action[:2]", "--predict=action[2]", "--exact"]
    assert "exact: " in command(flags[1], *see, "--samples=0")


@pytest.mark.parametrize(
    "text, flags, reason",
    [
        (None, ["--figure=scatter"], "posterior"),
        (None, ["--figure=curves"], "log.csv"),
        ("", ["--figure=curves"], "no evaluation"),
        ("iter,past\n0,x\n", ["--figure=curves"], "not a log"),
        (None, ["--figure=posterior"], "checkpoint"),
    ],
)
def test_mistakes_in_figures(command, tmp_path, text, flags, reason):
    if text is not None:
        (tmp_path / "log.csv").write_text(text)
    with pytest.raises(ValueError, match=reason):
        command(*flags, f"--out_dir={tmp_path}", script="plot.py")


def test_a_posterior_of_a_model_that_counts_timesteps(runs, command):
    assert "wrote" in command("--figure=posterior", f"--out_dir={runs['late']}", script="plot.py")


def test_what_the_data_do_not_know_is_said_not_to_be_seen(runs, command):
    line = f"--out_dir={runs['film']}", "--predict=move[6]", "--samples=0"
    out = command(*line, "--see=agent_pos[0],move[1:5]")
    assert "not seen, since the data do not know it: move[1], move[2]\n" in out
    assert "not seen" not in command(*line, "--see=agent_pos[0],move[3]")
    assert "not seen" not in command(*line, "--see=agent_pos[0]", "--given=move[1]=2")


def test_a_posterior_shows_nothing_that_the_data_do_not_know(command, tmp_path):
    demos, known = doorkey.make_dataset(40, seed=3), np.ones((40, 10), dtype=bool)
    known[:, 1::2] = False
    there = np.where(known, demos.values["agent_pos"], 0)  # which is impossible as it stands
    values = demos.values | {"agent_pos": there, "agent_pos/known": known}
    demos = replace(demos, values=values)
    demos.save(tmp_path / "a.npz")
    folder = save_run(tmp_path / "run", tmp_path / "a.npz", demos, context=10)
    flags = "--figure=posterior", f"--out_dir={folder}", "--trajectory=1"
    assert "wrote" in command(*flags, script="plot.py")


def test_only_doorkey_has_a_posterior(runs, command):
    with pytest.raises(ValueError, match="only DoorKey has"):
        command("--figure=posterior", f"--out_dir={runs['own']}", script="plot.py")


def test_walls_are_where_positions_say(runs):
    if "maze" not in runs:
        pytest.skip("Maze2D is not installed")
    fig, ax = plot.plt.subplots()
    plot.draw_walls(ax, "umaze")
    walls = maze2d.layout("umaze")
    assert len(ax.patches) == walls.sum()
    free = maze2d.Maze2D("umaze", n=200, seed=0).qpos  # where episodes start
    for patch in ax.patches:
        low = np.array(patch.get_xy())
        assert not ((free > low) & (free < low + 1)).all(axis=1).any()
    plot.plt.close(fig)


def test_an_action_is_drawn_towards_where_it_goes():
    fig, ax = plot.plt.subplots()
    plot.draw_action(ax, [0.9, 0.1, 0, 0], action=0)  # to the right
    (right, down, *_), (x, y) = ax.patches, ax.lines[0].get_xydata()[0]
    assert right.get_xy()[:, 0].min() == 0.5 and down.get_xy()[:, 1].min() == 0.5 and x > y == 0.5
    assert right.get_facecolor() == plot.PROBABILITY(0.9)
    plot.plt.close(fig)


def test_nothing_is_true_after_the_end_of_a_short_trajectory():
    truth = {"action": torch.zeros(1, 3), "action/known": torch.tensor([[True, True, False]])}
    assert [plot.happened(truth, "action", t) for t in range(4)] == [True, True, False, False]


def test_a_grid_of_either_size_is_drawn_column_by_column():
    for size in (6, 16):
        fig, ax = plot.plt.subplots()
        p = np.zeros((size - 2) ** 2)
        p[doorkey.cell_index(2, 4, size)] = 1
        plot.draw_grid(ax, p, cell=0)
        image = np.asarray(ax.images[0].get_array())
        assert np.argwhere(image).tolist() == [[3, 1]], "row y=4, column x=2"
        plot.plt.close(fig)
