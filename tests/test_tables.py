"""Summaries, tables and figures: of lines made by hand, and of the committed ones."""

import json
import math
import re

import pytest
from conftest import ROOT

import acting
import acting_maze2d
import claims
import figures
import masks
import run
import tables

RESULTS = ROOT / "repro" / "results"
STUDIES = ("masks", "minigrid_500", "minigrid_50", "minigrid_1000", "minigrid_curve",
           "minigrid_500_paper", "maze2d_medium", "maze2d_umaze", "maze2d_large",
           "maze2d_medium_paper", "maze2d_ablation")  # fmt: skip
MINUTES = {"training": 1.0, "evaluation": 0.5}


def heatmap_line(row, seed, losses, limit=1.0):
    rows = {task: {"loss": loss, "limit": limit} for task, loss in losses.items()}
    return {"row": row, "seed": seed, "minutes": MINUTES, "results": {"best": {"losses": rows}}}


def maze_line(row, seed, returns, selection):
    played = {mode: {"return": {"mean": x}} for mode, x in returns.items()}
    results = {"best": {"rollouts": played, "selection": selection}}
    return {"row": row, "seed": seed, "minutes": MINUTES, "results": results}


# --------------------------------------------------------------------------------------------------
# What is committed


@pytest.mark.parametrize("study", STUDIES)
def test_committed_summaries_and_tables_are_those_of_the_committed_lines(
    study, tmp_path, monkeypatch
):
    monkeypatch.setattr(figures, "results", str(tmp_path))
    monkeypatch.setattr(figures, "study", study)
    for name in ("draw_heatmap", "draw_learning_curve", "draw_courses", "draw_masks"):
        monkeypatch.setattr(figures, name, lambda *_: None)
    for path in [*RESULTS.glob("*.jsonl"), RESULTS / "generality.json"]:
        (tmp_path / path.name).symlink_to(path)
    figures.main()
    made = [path for path in tmp_path.iterdir() if path.suffix != ".jsonl"]
    assert made
    for path in made:
        assert path.read_text() == (RESULTS / path.name).read_text(), path.name


def numbers_of(row):
    """What a row of a Markdown table shows in its columns: numbers, None where there is none."""
    cells = [cell.strip(" *") for cell in row.split("|")[2:-1]]
    return [float(re.match(r"-?[\d.]+", cell)[0]) if cell else None for cell in cells]


def rows_of(text, heading):
    """{first cell: the row} of the first Markdown table after a heading."""
    table = re.search(r"\n\|.*?\n\n", text[text.index(heading) :], re.DOTALL)[0]
    return {row.split("|")[1].strip(" *"): row for row in table.strip().splitlines()[2:]}


@pytest.mark.parametrize(
    ("file", "heading"), [("README.md", "## What comes out"), ("repro/README.md", "## DoorKey")]
)
def test_numbers_of_the_doorkey_tables_in_texts_come_from_the_results(file, heading):
    found = json.loads((RESULTS / "minigrid_500.json").read_text())
    means = {
        row: {task: cell["mean"] for task, cell in cells.items()}
        for row, cells in found["rows"].items()
    }
    tuned, limit = means["random+finetune"], found["limit"]
    expected = {
        "alone": [means[task][task] for task in masks.EIGHT],
        "all eight tasks": means["all"].values(),
        "larger": means["dream_large"].values(),
        "dreams": means["dream"].values(),
        "random masks": means["random"].values(),
        "one set of weights": means["one"].values(),
        "random masks, finetuned": tuned.values(),
        "ensemble": means["ensemble"].values(),
        "Decision-GPT": [
            means[f"dt_{kind}"][task] for kind, task in zip(("bc", "rc"), masks.EIGHT)
        ],
        "feed-forward": list(
            (means["nn_random"] | {masks.EIGHT[0]: means["nn_bc"][masks.EIGHT[0]]}).values()
        ),
        "limit": limit.values(),
        "gap of": [tuned[task] - limit[task] for task in masks.EIGHT],
        "published": tables.PUBLISHED["doorkey"]["500"]["random+finetune"][:7],
    }
    shown = rows_of((ROOT / file).read_text(), heading)
    assert len(shown) >= 6
    for name, row in shown.items():
        ending = [key for key in expected if key in name]
        key = (
            "random masks"
            if name == "random masks"
            else next(k for k in ending if k != "random masks")
        )
        numbers = [x for x in numbers_of(row) if x is not None]
        assert numbers == [pytest.approx(x, abs=0.00051) for x in expected[key]], name


@pytest.mark.parametrize(
    ("file", "heading"), [("README.md", "Maze2D is the second"), ("repro/README.md", "## Maze2D")]
)
def test_numbers_of_the_maze_tables_in_texts_come_from_the_results(file, heading):
    found = json.loads((RESULTS / "maze2d_medium.json").read_text())
    paper = json.loads((RESULTS / "maze2d_medium_paper.json").read_text())["rows"]
    found["rows"]["published recipe"] = paper["unimask_random"]
    rows = {
        "by the published recipe, one seed": ("published recipe", "published recipe"),
        "alone": ("unimask_bc", "unimask_rc"),
        "both, one model": ("unimask_bc_rc", "unimask_bc_rc"),
        "one set of weights": ("unimask_one", "unimask_one"),
        "*: random masks and both": ("unimask_one", "unimask_one"),
        "random masks": ("unimask_random", "unimask_random"),
        "random masks, longer": ("unimask_random_long", "unimask_random_long"),
        "random masks, return hidden": ("unimask_random_bc", None),
        "random masks, finetuned": [f"unimask_random_finetune_{kind}" for kind in ("bc", "rc")],
        "both, then finetuned to one": [f"unimask_bc_rc_finetune_{kind}" for kind in ("bc", "rc")],
        "Decision-GPT": ("dt_bc", "dt_rc"),
        "with a timestep embedding)": ("dt_bc_timestep", "dt_rc_timestep"),
        "feed-forward net": ("nn_bc", "nn_rc"),
    }  # fmt: skip
    published = tables.PUBLISHED["maze2d_medium_return_mean_and_standard_error"]["T=10"]
    published = published | {"published recipe": published["unimask_random"]}
    shown = rows_of((ROOT / file).read_text(), heading)
    contexts = ("10", "5") if "T=5" in (ROOT / file).read_text() else ("10",)
    assert len(shown) >= 4
    for name, row in shown.items():
        if name in ("demonstrator", "the same without noise"):
            mean = found["demonstrator" if name == "demonstrator" else "noise_free"]
            assert numbers_of(row)[0] == pytest.approx(mean, abs=0.0051)
            continue
        names = next(rows[key] for key in rows if name.endswith(key))
        expected = []
        for T in contexts:
            for kind, of in zip(("bc", "rc"), names):
                expected.append(found["rows"][of][T][kind]["mean"] if of else None)
        for kind, of in zip(("bc", "rc"), names):
            theirs = published.get(of, {}).get(kind)
            expected.append(theirs and theirs[0])
        numbers = numbers_of(row)
        assert len(numbers) == len(expected)
        for number, value in zip(numbers, expected):
            assert number == (value and pytest.approx(value, abs=0.0051)), name


def test_numbers_of_the_other_mazes_and_of_more_demonstrations_come_from_the_results():
    text = (ROOT / "repro" / "README.md").read_text()
    mazes = ("umaze", "medium", "large")
    found = {maze: json.loads((RESULTS / f"maze2d_{maze}.json").read_text()) for maze in mazes}
    earned = lambda maze, row, kind: found[maze]["rows"][row]["5"][kind]["mean"]
    for maze, row in rows_of(text, "The same recipe in other mazes").items():
        expected = [found[maze]["demonstrator"]]
        for name in ("unimask_one", "unimask", "dt", "nn"):
            of = [name if name == "unimask_one" else f"{name}_{kind}" for kind in ("bc", "rc")]
            expected += [earned(maze, row, kind) for row, kind in zip(of, ("bc", "rc"))]
        assert numbers_of(row) == [pytest.approx(x, abs=0.0051) for x in expected], maze
    for name, row in rows_of(text, "**More demonstrations.**").items():
        maze, _, policy = name.partition(", ")
        which = "unimask_bc" if policy == "cloning" else "unimask_one"
        for number, ending in zip(numbers_of(row), ("", "_3000", "_10000")):
            if number is not None:
                value = earned(maze, which + ending, "bc")
                assert number == pytest.approx(value, abs=0.0051), name


# --------------------------------------------------------------------------------------------------
# The heatmap


@pytest.fixture
def heatmap():
    """Three seeds of `random`, two finetuned models, an ensemble, a Decision-GPT, a fork's row."""
    everything = dict.fromkeys(masks.EIGHT, 4.0)
    lines = [
        heatmap_line("random", seed, everything | {"past": past})
        for seed, past in enumerate((2.0, 3.0, 7.0))
    ]
    lines += [
        heatmap_line("mine", 0, everything),
        heatmap_line("random+finetune-past", 0, everything | {"past": 1.5, "future": 0.1}),
        heatmap_line("random+finetune-waypoint", 2, {"waypoint": 1.25}),
        heatmap_line("ensemble-past", 0, {"past": 1.4}),
        heatmap_line("dt_bc", 0, {"behavior_cloning": 1.75, "reward_conditioned": 2.0}),
    ]
    return tables.heatmap(lines, parallel=2, command="a command")


def test_heatmap_mean_deviation_and_number_of_seeds(heatmap):
    rows = heatmap["rows"]
    assert list(rows) == ["random", "random+finetune", "ensemble", "dt_bc", "mine"]
    assert rows["random"]["past"] == {"mean": 4.0, "std": pytest.approx(math.sqrt(7)), "n": 3}
    assert rows["random+finetune"] == {  # in each column only the model finetuned for it
        "waypoint": {"mean": 1.25, "std": None, "n": 1},
        "past": {"mean": 1.5, "std": None, "n": 1},
    }
    assert set(rows["dt_bc"]) == {"behavior_cloning", "reward_conditioned"}
    assert heatmap["seeds"] == [0, 1, 2] and heatmap["limit"] == dict.fromkeys(masks.EIGHT, 1.0)
    assert heatmap["core_minutes"] == 10.5 and heatmap["minutes"] == 5.2  # 7 of 1.5, two at a time


def test_the_ensemble_is_never_the_best_of_a_column(heatmap):
    assert tables.best_of(heatmap)["past"] == 1.5
    loss, ratio, gap = figures.panels(heatmap).values()
    assert loss["random"]["past"] == 4.0 and gap["random"]["past"] == 3.0
    assert ratio["random"]["past"] == pytest.approx(4.0 / 1.5)
    assert ratio["random+finetune"]["past"] == 1.0 and ratio["ensemble"]["past"] < 1
    assert gap["exact limit"]["past"] == 0.0 and ratio["exact limit"]["past"] == 1 / 1.5


def test_the_heatmap_says_which_rows_have_other_seeds_than_its_title(heatmap):
    rows = ("random", "random+finetune", "ensemble", "exact limit")
    assert [figures.other_seeds(heatmap, row) for row in rows] == ["", " (1 seed)", "", ""]


def test_heatmap_table_shows_what_is_missing_and_what_cannot_be(heatmap):
    first = tables.heatmap_table(heatmap, "500").split("Gap to")[0]
    line = {x.split("|")[1].strip(): [c.strip() for c in x.split("|")[2:-1]]
            for x in first.splitlines() if "|" in x}  # fmt: skip
    assert line["random"][4] == "4.000 ± 2.646 (4.95)"
    assert line["random+finetune"][4] == "**1.500** (4.84) n=1"
    assert line["random+finetune"][5] == "missing (4.89)"
    assert line["random"][7] == "**4.000 ± 0.000** (2.07*)"  # of another definition
    assert line["ensemble"][4] == "1.400" and line["mine"][4] == "4.000 n=1"
    assert line["dt bc"][0] == "**1.750** n=1" and line["dt bc"][4] == "–"
    assert line["*exact limit*"] == ["1.000"] * 8
    text = tables.heatmap_table(heatmap, "500")
    assert "Not run: behavior_cloning" in text and "`a command` in 10 core-minutes" in text


def test_heatmap_refuses_runs_that_were_asked_other_questions():
    lines = [heatmap_line("random", seed, {"past": 4.0}, 1.0 + seed / 10) for seed in (0, 1)]
    with pytest.raises(ValueError, match="other questions"):
        tables.heatmap(lines, 2, "a command")


# --------------------------------------------------------------------------------------------------
# Maze2D


@pytest.fixture
def maze_lines():
    """The selection episodes speak for hidden past actions, the reported ones against them."""
    asked = lambda seen, hidden: {"bc": seen, "bc_states": hidden}
    return [
        maze_line("unimask_bc_T10", 0, asked(2.9, 2.0), asked(1.0, 3.0)),
        maze_line("unimask_bc_T10", 1, asked(2.7, 2.4), asked(2.0, 1.5)),
        maze_line("dt_rc_T5", 0, {"rc": 2.5, "rc_states": 2.6}, {}),
        {"row": "demonstrator", "seed": 0, "results": dict.fromkeys(tables.DRIVEN, 2.5)},
    ]


def test_rows_of_more_demonstrations_join_the_maze_table_but_not_its_hours(maze_lines):
    before = tables.maze(maze_lines, parallel=2, command="a command")
    answers = {"bc": 3.1, "bc_states": 3.2}
    more = maze_line("unimask_bc_10000_T5", 0, answers, answers)
    found = tables.maze([more, *maze_lines], parallel=2, command="a command")
    assert found["rows"].pop("unimask_bc_10000")["5"]["bc"]["mean"] == 3.2
    assert found == before


def test_maze_table_reports_the_question_that_selection_chose(maze_lines):
    found = tables.maze(maze_lines, parallel=2, command="a command")
    cell = found["rows"]["unimask_bc"]["10"]["bc"]
    assert cell["question"] == "bc_states" and cell["n"] == 2  # 2.25 against 1.5 in selection
    assert cell["mean"] == pytest.approx(2.2) and cell["sem"] == pytest.approx(0.2)
    assert cell["asked"]["bc"] == {"mean": 2.8, "sem": pytest.approx(0.1), "n": 2, "selection": 1.5}
    assert "rc" not in found["rows"]["unimask_bc"]["10"]
    other = found["rows"]["dt_rc"]["5"]["rc"]  # selection is silent: as published
    assert (other["question"], other["mean"], other["sem"], other["n"]) == ("rc", 2.5, None, 1)
    assert found["hours"] == 0.04 and found["seeds"] == [0, 1]
    assert found["demonstrator"] == found["noise_free"] == 2.5


def test_maze_table_shows_both_questions(maze_lines):
    text = tables.maze_table(tables.maze(maze_lines, 2, "a command"), "medium")
    assert ("| unimask_bc | 10 | BC | **2.200 ± 0.200** | past actions hidden | 2.468 ± 0.044 "
            "| 2.800 ± 0.100 | 2.200 ± 0.200 |") in text  # fmt: skip
    assert "| dt_rc | 5 | RC | **2.500** n=1 | past actions seen |  | 2.500 | 2.600 |" in text
    assert "Not run: unimask_rc" in text and "| *demonstrator without noise* |" in text


def test_the_ablation_tabulates_what_there_is():
    lines = [maze_line(row, seed, {mode: x + seed for mode in ("bc", "bc_states")}, {})
             for row, x in (("base", 2.5), ("mine", 2.25)) for seed in (0, 1)]  # fmt: skip
    text = tables.ablation_table(lines).splitlines()
    assert "| the recipe | 3.000 ± 0.500 | 3.000 ± 0.500 | 2 | 1.0 |" in text
    assert "| mine | 2.750 ± 0.500 | 2.750 ± 0.500 | 2 | 1.0 |" in text


# --------------------------------------------------------------------------------------------------
# A grid search


def sweep_line(row, seed, best, log, **settings):
    log = {"iter": [0, 50, 100], "train_loss": [None, 9.0, 8.0]} | log
    line = {"row": row, "seed": seed, "iters": {"best": best}, "log": log, "settings": settings}
    return line | {"minutes": MINUTES}


def test_a_grid_search_is_ordered_by_what_chose_the_checkpoints():
    past = lambda row, seed, low: sweep_line(
        row, seed, 50, {"past": [5.0, low, 4.9], "future": [9.0, 1.0, 1.0]}, task="past"
    )
    lines = [past("a=1,b=2", 0, 4.0), past("a=1,b=3", 0, 3.0), past("a=1,b=2", 1, 2.5)]
    lines += [past("a=1,b=3", 1, 3.0)]
    text = tables.sweep_table(lines).splitlines()
    assert text[4:6] == [
        "| a=1, b=3 | 3.000 ± 0.000 | 2 | 1.0 |",
        "| a=1, b=2 | 3.250 ± 1.061 | 2 | 1.0 |",
    ]
    # a mixture sums its tasks, random masks all that was asked, best_tasks say themselves
    log = {"past": [5.0, 4.0, 3.0], "future": [9.0, 1.0, 2.0]}
    more = log | {"span(3,8)": [3.0, 2.5, 2.0], "return_backup": [3.0, 2.0, 1.0]}
    for settings, asked, expected in (
        ({"task": "past+future"}, log, 5.0),
        ({"task": "random"}, log, 5.0),
        ({}, log, 5.0),
        ({"task": "random", "best_tasks": "future"}, log, 1.0),
        ({"task": "past", "best_tasks": "future"}, log, 1.0),
        ({"best_tasks": "span(3,8),past"}, more, 6.5),
        ({"task": "return_backup"}, more, 2.0),
    ):
        assert tables.validation(sweep_line("a", 0, 50, asked, **settings)) == expected
    returns = {"past": [1.0, 1.0, 1.0], "return_bc": [0.0, 2.0, 1.0], "return_rc": [0.0, 1.5, 3.0]}
    played = lambda kind: tables.validation(sweep_line("a", 0, 50, returns, keep_best=kind))
    assert (played("return"), played("return_sum")) == (-2.0, -3.5)
    table = tables.sweep_table([sweep_line("low", 0, 0, returns, keep_best="return"),
                                sweep_line("high", 0, 50, returns, keep_best="return")])  # fmt: skip
    assert "| high | 2.000 | 1 | 1.0 |\n| low | 0.000 | 1 | 1.0 |" in table


def pairs_of(row):
    """[(number, number)] of the cells `x / y` in a row of a Markdown table."""
    return [tuple(map(float, cell.split("/"))) for cell in row.split("|")[2:-1] if "/" in cell]


def test_the_tables_of_acting_in_the_text_are_those_of_the_results():
    text = (ROOT / "repro" / "README.md").read_text()
    close = lambda pairs: [pytest.approx(pair, abs=0.0051) for pair in pairs]
    agents = json.loads((RESULTS / "act_doorkey.json").read_text())["agents"]
    shown = rows_of(text, "### Acting")
    assert list(shown) == [acting.NAMES[agent] for agent in agents]
    for agent, row in zip(agents.values(), shown.values()):
        pairs = [(agent["bc_argmax"], agent["bc_sampled"])]
        pairs += [(agent["asked_argmax"][x], agent["asked"][x]) for x in ("2", "4", "6", "8", "10")]
        pairs += [(agent["best_feasible_argmax"], agent["best_feasible_sampled"])]
        pairs += [(agent["best"], agent["best_sampled"])] if "best" in agent else []
        assert pairs_of(row) == close(pairs)
    agents = json.loads((RESULTS / "act_maze2d.json").read_text())["agents"]
    names = {words: row for row, words in acting_maze2d.NAMES.items()}
    shown = rows_of(text, "**Does a return steer?**")
    assert len(shown) == len(agents)
    for name, row in shown.items():
        words, T = name.split(", T=")
        agent = agents[f"{names[words]}_T{T}"]
        first, every = (agent["obeyed"][x] for x in ("first", "every"))
        assert pairs_of(row) == close(
            [(first[x], every[x]) for x in ("0", "0.4", "0.8", "1", "1.2")]
        )


# --------------------------------------------------------------------------------------------------
# The paper's claims


def test_the_claims_in_the_text_are_those_of_the_results(tmp_path, monkeypatch, capsys):
    for name in (
        "minigrid_500.json",
        "maze2d_medium.json",
        "maze2d_medium.jsonl",
        "maze2d_returns.jsonl",
        "maze2d_medium_paper.jsonl",
    ):
        (tmp_path / name).symlink_to(RESULTS / name)
    monkeypatch.setattr(claims, "results", str(tmp_path))
    claims.main()
    assert capsys.readouterr().out.strip() in (ROOT / "repro" / "README.md").read_text()
    found = json.loads((tmp_path / "claims.json").read_text())
    assert found == json.loads((RESULTS / "claims.json").read_text())
    assert [row["claim"][0] for row in found] == list("123456")


def test_a_claim_counts_the_columns_in_which_a_row_is_better_than_all_others():
    rows = {"random": [1.0] * 8, "single": [0.5] * 3 + [2.0] * 5, "other": [0.9] * 4 + [3.0] * 4}
    count, text = claims.better(rows["random"], rows["single"], rows["other"])
    assert count == 4 and text == "better in 4 of 8; sum of losses 8.00 against 11.50 and 15.60"


# --------------------------------------------------------------------------------------------------
# Figures


def test_the_course_of_a_maze_run_spreads_its_minutes_over_its_steps():
    log = {"iter": [0, 50, 100], "behavior_cloning_states": [0.7, 0.4, 0.3],
           "return_bc": [0.0, 1.0, 1.5], "return_bc_states": [0.1, 0.9, 2.0]}  # fmt: skip
    line = {"log": log, "minutes": {"training": 4.0, "evaluation": 1.0}}
    assert figures.course(line) == ([0.0, 2.0, 4.0], [0.7, 0.4, 0.3], [0.1, 1.0, 2.0])


def test_figures_are_drawn(heatmap, tmp_path):
    figures.draw_heatmap(heatmap, f"{tmp_path}/a/heatmap.png", "a title")
    gaps = {"50": [2.0, 3.0], "unlimited": [0.5, 0.6]}
    gaps = {n: dict.fromkeys(masks.EIGHT, values) for n, values in gaps.items()}
    rows = dict.fromkeys(figures.LEARNING, gaps) | {"dream": {}}
    figures.draw_learning_curve(rows, f"{tmp_path}/a/curve.png")
    grid = tables.maze_grid(run.read_results(RESULTS / "maze2d_medium.jsonl"))
    figures.draw_courses(grid, "10", f"{tmp_path}/a/courses.png")
    for name in ("heatmap", "curve", "courses"):
        assert (tmp_path / "a" / f"{name}.png").stat().st_size > 10_000


def test_the_learning_curve_collects_gaps_by_number_of_trajectories():
    losses = lambda gap: {task: {"loss": 3.0, "gap": gap} for task in masks.EIGHT}
    line = lambda row, gap: {"row": row, "results": {"best": {"losses": losses(gap)}}}
    studies = {
        "50": [line("random", 2.0), line("all", 9.0), line("random+finetune-past", 1.0)],
        "500": [],
        "unlimited": [line("random", 0.5)],
    }
    found = figures.gaps_by_size(studies, "random")
    assert list(found) == ["50", "unlimited"] and found["50"]["past"] == [2.0]
    assert figures.gaps_by_size(studies, "random+finetune") == {"50": {"past": [1.0]}}
