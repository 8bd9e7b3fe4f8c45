"""Tables and figures of the reproductions, from run files made by hand."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
from test_repro import parsed, result_file

import ablation
import curve
import heatmap
import jobs
import maze_curve
import rollouts
import table


def minigrid_file(folder, name, losses, limit=1.0):
    rows = {task: {"loss": loss, "limit": limit} for task, loss in losses.items()}
    result_file(folder / f"{name}.json", {}, results={"best": {"losses": rows}, "last": {"losses": rows}})


@pytest.fixture
def minigrid_found(tmp_path):
    """Three seeds of `random`, of which the last misses nothing; two finetuned models; one Decision-GPT."""
    everything = dict.fromkeys(jobs.MINIGRID_TASKS, 4.0)
    for seed, past in enumerate((2.0, 3.0, 7.0)):
        minigrid_file(tmp_path, f"random_s{seed}", everything | {"past": past})
    minigrid_file(tmp_path, "random+finetune-past_s0", everything | {"past": 1.5, "future": 0.1})
    minigrid_file(tmp_path, "random+finetune-waypoint_s2", everything | {"waypoint": 1.25})
    minigrid_file(tmp_path, "dt_bc_s0", {"behavior_cloning": 1.75, "reward_conditioned": 2.0})
    (tmp_path / "all_s0.json").write_text("{")  # being written: not there yet
    cells, runs = heatmap.collect(tmp_path)
    return heatmap.summary(cells, runs, parallel=2, command="a command")


def test_heatmap_mean_deviation_and_number_of_seeds(minigrid_found):
    rows = minigrid_found["rows"]
    assert rows["random"]["past"] == {"mean": 4.0, "std": pytest.approx(math.sqrt(7)), "n": 3}  # (4 + 1 + 9) / 2
    assert rows["random+finetune"] == {
        "waypoint": {"mean": 1.25, "std": None, "n": 1},
        "past": {"mean": 1.5, "std": None, "n": 1},
    }  # in each column only the model finetuned for it
    assert set(rows["dt_bc"]) == {"behavior_cloning", "reward_conditioned"} and "all" not in rows
    assert minigrid_found["seeds"] == [0, 1, 2] and minigrid_found["limit"] == dict.fromkeys(jobs.MINIGRID_TASKS, 1.0)
    assert minigrid_found["core_minutes"] == 9.0 and minigrid_found["minutes"] == 4.5  # 6 runs of 1.5, two at a time


def test_heatmap_forms(minigrid_found):
    raw, normalised, gap = heatmap.panels(minigrid_found).values()
    assert raw["random"]["past"] == 4.0 and gap["random"]["past"] == 3.0
    assert normalised["random"]["past"] == pytest.approx(4.0 / 1.5) and normalised["random+finetune"]["past"] == 1.0
    assert gap["exact limit"]["past"] == 0.0 and normalised["exact limit"]["past"] == pytest.approx(1 / 1.5)


def test_heatmap_table_shows_what_is_missing_and_what_cannot_be(minigrid_found):
    lines = heatmap.markdown(minigrid_found, heatmap.published_rows(500), 500).splitlines()
    line = {
        text.split("|")[1].strip(): [cell.strip() for cell in text.split("|")[2:-1]]
        for text in lines[:20]
        if "|" in text
    }
    assert line["random"][4] == "4.000 ± 2.646 (4.95)"
    assert line["random+finetune"][4] == "**1.500** (4.84) n=1"
    assert line["random+finetune"][5] == "missing (4.89)"
    assert line["random"][7] == "**4.000 ± 0.000** (2.07*)"  # of another definition
    assert line["dt bc"][0] == "**1.750** n=1" and line["dt bc"][4] == "–" and line["dt rc"][0] == "missing"
    assert line["*exact limit*"] == ["1.000"] * 8


def test_heatmap_refuses_runs_that_were_asked_other_questions(tmp_path):
    minigrid_file(tmp_path, "random_s0", {"past": 4.0}, limit=1.0)
    minigrid_file(tmp_path, "random_s1", {"past": 4.0}, limit=1.1)
    cells, runs = heatmap.collect(tmp_path)
    with pytest.raises(ValueError, match="other questions"):
        heatmap.summary(cells, runs, 2, "a command")


def test_learning_curve_shares_the_heatmaps_runs_and_collects_gaps_by_number_of_trajectories(tmp_path, monkeypatch):
    study = jobs.Study("minigrid", "500")
    (runs,) = jobs.learning_curve(study, [0, 2])
    heatmaps = [jobs.minigrid(study._replace(variant=n), [0, 2])[0] for n in ("50", "500")]
    shared = {run.line: parsed(run) for runs_of_n in heatmaps for run in runs_of_n if run.row == "random"}
    ours = {str(one.out_dir): one for one in map(parsed, runs)}
    assert len(ours) == 2 * len(jobs.CURVE) and {str(one.out_dir) for one in shared.values()} <= set(ours)
    assert all(ours[str(one.out_dir)].settings == one.settings for one in shared.values())
    assert [one.config["fresh"] for one in ours.values()].count(True) == 2  # unlimited
    monkeypatch.chdir(tmp_path)
    for n, gap in (("50", 2.0), ("unlimited", 0.5)):
        for seed in (0, 1):
            rows = {task: {"loss": 3.0, "limit": 1.0, "gap": gap + seed} for task in jobs.MINIGRID_TASKS}
            folder = Path(study._replace(variant=n).runs)
            result_file(folder / f"random_s{seed}.json", {}, results={"best": {"losses": rows}})
            result_file(folder / f"all_s{seed}.json", {}, results={"best": {"losses": {}}})
    found = curve.collect(study)
    assert list(found) == ["50", "unlimited"] and found["unlimited"]["past"] == [0.5, 1.5]
    curve.draw(found, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 10000


def test_the_ablation_changes_one_thing_at_a_time_and_tabulates_what_there_is(tmp_path):
    runs = ablation.runs_of(jobs.Study("maze2d", "ablation"), [0, 3])
    made = {run.name: parsed(run) for run in runs}
    assert len(made) == 2 * len(ablation.VARIANTS)
    base = made["base_s3"].settings
    for name, (_, changed) in ablation.VARIANTS.items():
        one = made[f"{name}_s3"].settings
        assert {key for key in base | one if base.get(key) != one.get(key)} == set(changed)
        assert all(made[f"{name}_s3"].config[key] == value for key, value in changed.items())
    for name, returned in (("base", 2.5), ("mean", 2.25)):
        for seed in (0, 1):
            best = {mode: returned + seed for mode in ("bc", "bc_states")}
            maze_file(tmp_path, f"{name}_s{seed}", best, best, {})
    lines = ablation.markdown(heatmap.read_runs(tmp_path)).splitlines()
    assert "| the recipe | 3.000 ± 0.500 | 3.000 ± 0.500 | 2 | 1.0 |" in lines
    assert sum(line.startswith("| ") for line in lines) == 3  # with the heading


def test_the_course_of_a_maze_run_spreads_its_minutes_over_its_steps(tmp_path):
    log = {"iter": [0, 50, 100], "behavior_cloning_states": [0.7, 0.4, 0.3], "return_bc": [0.0, 1.0, 1.5],
           "return_bc_states": [0.1, 0.9, 2.0]}  # fmt: skip
    run = {"log": log, "minutes": {"training": 4.0, "evaluation": 1.0}}
    assert maze_curve.course(run) == ([0, 50, 100], [0.0, 2.0, 4.0], [0.7, 0.4, 0.3], [0.1, 1.0, 2.0])
    maze_curve.draw({"unimask_bc": {"10": {0: run}}}, "10", tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10000


def test_drawn_rollouts_are_the_first_and_the_worst():
    ours, theirs = np.arange(40.0), np.arange(40.0)
    ours[[30, 5]] -= 7.0, 9.0
    chosen = rollouts.choose(ours, theirs)
    assert chosen[:8].tolist() == list(range(8)) and chosen[8:10].tolist() == [5, 30] and len(chosen) == 16


@pytest.mark.skipif(importlib.util.find_spec("d4rl") is None, reason="d4rl is not installed (requirements-maze.txt)")
def test_rollouts_are_recorded_from_start_to_end_and_drawn(tmp_path):
    import data

    env = data.environment("maze2d-umaze", 16, seed=1)
    start, positions = env.qpos.copy(), rollouts.record(env)
    rewards = rollouts.demonstrate(env, "umaze", noise=0.0)
    assert len(positions) == 201 and np.array_equal(positions[0], start) and np.array_equal(positions[-1], env.qpos)
    distance = lambda place: np.linalg.norm(place - env.goal, axis=1)
    np.testing.assert_allclose(rewards.sum(axis=1), distance(start) - distance(positions[-1]), atol=1e-9)
    assert distance(positions[-1]).mean() < 0.5  # it is the expert
    paths = dict.fromkeys(("model", "demonstrator"), np.stack(positions, axis=1))
    rollouts.draw(str(tmp_path / "a.png"), "umaze", range(16), env.goal, paths, {"model": rewards.sum(axis=1)})
    assert (tmp_path / "a.png").stat().st_size > 10000


def maze_file(folder, name, best, last, selection):
    checkpoint = lambda returns: {
        "rollouts": {mode: {"return": {"mean": x, "sem": 0.1}} for mode, x in returns.items()}
    }
    results = {"best": checkpoint(best) | {"selection": selection}, "last": checkpoint(last) | {"selection": {}}}
    result_file(folder / f"{name}.json", {}, results=results)


@pytest.fixture
def maze_found(tmp_path):
    """The selection episodes speak for hidden past actions, the reported ones against them: selection decides."""
    maze_file(
        tmp_path,
        "unimask_bc_T10_s0",
        {"bc": 2.9, "bc_states": 2.0},
        {"bc": 1.0, "bc_states": 1.5},
        {"bc": 1.0, "bc_states": 3.0},
    )
    maze_file(
        tmp_path,
        "unimask_bc_T10_s1",
        {"bc": 2.7, "bc_states": 2.4},
        {"bc": 3.0, "bc_states": 2.5},
        {"bc": 2.0, "bc_states": 1.5},
    )
    maze_file(tmp_path, "dt_rc_T5_s0", {"rc": 2.5, "rc_states": 2.6}, {"rc": 2.5, "rc_states": 2.6}, {})
    grid, runs = table.collect(tmp_path)
    return table.summary(grid, runs, parallel=2, command="a command")


def test_table_reports_the_question_that_selection_chose(maze_found):
    cell = maze_found["rows"]["unimask_bc"]["10"]["bc"]
    assert cell["question"] == "bc_states" and cell["n"] == 2  # 2.25 against 1.5 on the selection episodes
    assert cell["mean"] == pytest.approx(2.2) and cell["sem"] == pytest.approx(0.2)  # 0.4 / sqrt(2) / sqrt(2)
    assert cell["asked"]["bc"]["last"] == {"mean": 2.0, "sem": pytest.approx(1.0), "n": 2}
    assert "rc" not in maze_found["rows"]["unimask_bc"]["10"]
    assert maze_found["hours"] == 0.04 and maze_found["seeds"] == [0, 1]  # 3 runs of 1.5 minutes, two at a time


def test_table_takes_the_published_question_where_selection_is_silent(maze_found):
    cell = maze_found["rows"]["dt_rc"]["5"]["rc"]
    assert (cell["question"], cell["mean"], cell["sem"], cell["n"]) == ("rc", 2.5, None, 1)


def test_table_shows_both_questions_and_both_checkpoints(maze_found):
    text = table.markdown(maze_found, "medium")
    assert ("| unimask_bc | 10 | BC | **2.200 ± 0.200** | past actions hidden | 2.468 ± 0.044 "
            "| 2.800 ± 0.100 | 2.000 ± 1.000 | 2.200 ± 0.200 | 2.000 ± 0.500 |") in text  # fmt: skip
    assert "| dt_rc | 5 | RC | **2.500** n=1 | past actions seen |  | 2.500 | 2.500 | 2.600 | 2.600 |" in text
    assert "| nn_bc | 10 | | missing |" in text


@pytest.mark.skipif(importlib.util.find_spec("d4rl") is None, reason="d4rl is not installed (requirements-maze.txt)")
def test_the_demonstrator_plays_the_episodes_of_the_models():
    noisy, distance = table.demonstrator("medium", [0], noise=0.5, episodes=50)
    expert, _ = table.demonstrator("medium", [0], noise=0.0, episodes=50)
    assert noisy < expert < distance and expert > 0.8 * distance
