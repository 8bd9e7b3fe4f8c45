"""The page: its model and its posterior are ours, and a reader can use it, in a real browser."""

import copy
import importlib.util
import json
import re
import shlex
from dataclasses import asdict

import numpy as np
import pytest
import torch
from browser import PROGRAM, Browser
from conftest import ROOT
from runs import good

import bayes
import checkpoint
import data
import doorkey
import evaluate
import masks
import maze2d
import model
import page
import rollout
from data import Trajectories

T, FACTORS = doorkey.LENGTH, doorkey.factors()
NAMES = [f.name for f in FACTORS]
QUERIES, DRIVER = (ROOT / "assets" / name for name in ("minigrid_queries", "maze2d_one"))
MAZE = bool(importlib.util.find_spec("d4rl"))
in_maze = pytest.mark.skipif(not MAZE, reason="needs requirements-maze.txt")
in_browser = pytest.mark.skipif(
    not PROGRAM, reason="there is no chromium here: apt-get install chromium"
)
# 200 masks in the page, factor by factor: {"see": {factor: (200, T)}, "values": ...}
ASK = "asked.see.agent_pos.map((_, i) => {who}.{what}(of(asked.values, i), of(asked.see, i)))"


def some_trajectories(n, returns=True):
    """n trajectories with random masks of their factors; returns: some show at any timestep."""
    whole, generator = doorkey.make_dataset(n, seed=99), torch.Generator().manual_seed(3)
    pair = masks.draw("random+all", n, T, generator)
    see, _ = masks.hide_factors(*pair, FACTORS, 0.2, generator)
    if returns:
        shown = torch.rand(n, T, generator=generator) < 0.1
        see["return_to_go"] = see["return_to_go"] | shown
    return whole, see


def ask(browser, code, whole, see):
    """What the page's JavaScript says to trajectories and masks."""
    asked = {
        "values": {name: x.tolist() for name, x in whole.values.items()},
        "see": {name: x.tolist() for name, x in see.items()},
    }
    helper = "const of = (rows, i) => Object.fromEntries(NAMES.map(n => [n, rows[n][i]]))"
    plain = "(key, x) => ArrayBuffer.isView(x) ? [...x] : x === -Infinity ? null : x"
    text = browser.run(
        f"(() => {{ const asked = {json.dumps(asked)}; {helper};"
        f" return JSON.stringify({code}, {plain}); }})()"
    )
    return json.loads(text)


def differences(answers, expected):
    """{factor: the largest difference} of [{factor: (T, classes)}] and {factor: (n, T, classes)}."""
    found = {}
    for name, p in expected.items():
        ours = np.array([answer[name] for answer in answers])
        found[name] = float(np.abs(ours - np.asarray(p)).max())
    return found


def probabilities(network, whole, see):
    outputs = evaluate.answer(network, whole.tensors(), see)
    return {name: y.softmax(dim=-1) for name, y in outputs.items()}


@pytest.fixture(scope="module")
def built(tmp_path_factory, run_warm):
    path = tmp_path_factory.mktemp("page") / "page.html"
    flags = [f"--out_dir={QUERIES}", f"--maze_dir={DRIVER}" if MAZE else "", f"--out={path}"]
    good(run_warm("page.py", *filter(None, flags), cwd=path.parent))
    return path


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(running, built):
    """The page, freshly loaded and at rest, without animations."""
    running.errors.clear()
    running.requests.clear()
    running.look(1280, 1000, calm=True)
    running.open(built)
    yield running
    assert not running.errors
    assert set(running.requests) == {f"file://{built}"}  # no fonts, no scripts, no trackers


def text_of(browser, selector):
    return browser.run(f"document.querySelector({selector!r}).textContent")


def entry(name, t):
    return f".entry.{name}[data-t='{t}']"


def seen(browser):
    """{factor: timesteps that are shown}, from what a screen reader is told."""
    found = {name: [] for name in NAMES}
    buttons = "[...document.querySelectorAll('#strip .entry[aria-pressed=true]')]"
    for name, t in browser.run(f"{buttons}.map(e => [e.dataset.name, Number(e.dataset.t)])"):
        found[name].append(t)
    return {name: sorted(timesteps) for name, timesteps in found.items()}


# ---- parity ----------------------------------------------------------------------------------------


@in_browser
def test_the_model_of_the_page_is_ours(browser):
    whole, see = some_trajectories(200, returns=False)
    answers = ask(browser, ASK.format(who="model", what="answer"), whole, see)
    found = differences(answers, probabilities(checkpoint.load(str(QUERIES)), whole, see))
    assert set(found) == {"agent_pos", "key_pos", "action"} and max(found.values()) < 1e-3, found


@in_browser
def test_the_posterior_of_the_page_is_ours(browser):
    whole, see = some_trajectories(200)
    answers = ask(browser, ASK.format(who="exact", what="answer"), whole, see)
    found = differences(answers, bayes.posterior(whole, see, returns=True))
    assert set(found) == set(NAMES) and max(found.values()) < 1e-6, found
    likelihoods = ask(browser, ASK.format(who="exact", what="likelihood"), whole, see)
    np.testing.assert_allclose(likelihoods, bayes.log_likelihood(whole, see), atol=1e-6)


@in_browser
def test_what_is_impossible_is_so_on_the_page_and_a_contradiction_is_a_smallest_one(browser):
    whole, see = some_trajectories(60)
    rng = np.random.default_rng(0)
    values = {f.name: rng.integers(0, f.size, whole.values[f.name].shape) for f in FACTORS}
    changed = {name: rng.random(x.shape) < 0.05 for name, x in values.items()}
    values = {name: np.where(changed[name], x, whole.values[name]) for name, x in values.items()}
    wrong = Trajectories(FACTORS, values, "doorkey")
    possible = np.isfinite(bayes.log_likelihood(wrong, see))
    assert 5 < possible.sum() < 55
    answers = ask(browser, ASK.format(who="exact", what="answer"), wrong, see)
    assert [answer is not None for answer in answers] == possible.tolist()
    conflicts = ask(browser, ASK.format(who="exact", what="conflict"), wrong, see)
    for i in np.flatnonzero(~possible):
        alone = {name: torch.zeros(1, T, dtype=torch.bool) for name in NAMES}
        for name, t in conflicts[i]:
            alone[name][0, t] = True
        assert np.isinf(bayes.log_likelihood(wrong[[i]], alone)).all()
        for name, t in conflicts[i]:
            alone[name][0, t] = False
            assert np.isfinite(bayes.log_likelihood(wrong[[i]], alone)).all()
            alone[name][0, t] = True


def fill_three_times(browser):
    """Samples, whose probabilities as they were drawn have to be the exact ones."""
    for _ in range(3):
        browser.click("#fill")
        browser.wait("find('result').textContent")
        drawn, exactly = re.findall(r"−?[\d.]+(?= )", text_of(browser, "#result"))
        assert drawn == exactly


@in_browser
def test_a_model_of_another_kind_is_shown_as_well(running, tmp_path):
    """Norm after each layer, learned positions, returns predicted; and it never met half a state."""
    torch.manual_seed(0)
    shape = {"n_embd": 32, "n_ff": 48, "n_layer": 2, "n_head": 4, "return_weight": 1.0}
    network = model.build(model.ModelConfig(positions="learned", **shape), FACTORS).eval()
    path, tests = tmp_path / "page.html", doorkey.make_dataset(10, seed=1)
    path.write_text(page.build(network, {"factor_hiding": 0.0}, tests))
    running.errors.clear()
    running.look(1280, 1000, calm=True)
    running.open(path)
    whole, see = some_trajectories(20)
    answers = ask(running, ASK.format(who="model", what="answer"), whole, see)
    found = differences(answers, probabilities(network, whole, see))
    assert set(found) == set(NAMES) and max(found.values()) < 1e-3, found
    running.click(entry("key_pos", 0))
    assert seen(running)["agent_pos"] == seen(running)["key_pos"] == [9]
    # the exact posterior draws agent and key one by one, which this model cannot
    running.run("setMask(each(() => row(false))), find('who').value = 'exact'")
    fill_three_times(running)
    assert not running.errors


# ---- a reader's path -------------------------------------------------------------------------------


@in_browser
def test_the_buttons_of_the_tasks_and_the_slider_show_their_masks(browser):
    first = json.loads(browser.run("JSON.stringify(DATA.masks)"))
    for number, task in enumerate(masks.EIGHT):
        browser.click(f"#tasks button:nth-child({number + 1})")
        see = first[task]["see"][0]  # (T) of "110" at t = 0
        expected = {
            f.name: [t for t in range(T) if see[t][masks.GROUPS.index(f.group)] == "1"]
            for f in FACTORS
        }
        assert seen(browser) == expected
        assert browser.run("document.querySelectorAll('#tasks [aria-pressed=true]').length") == 1
    browser.click("#tasks [data-task=past]")
    browser.run("find('time').focus()")
    for _ in range(3):
        browser.key("ArrowRight")
    assert text_of(browser, "#now") == "t = 3"
    assert seen(browser)["agent_pos"] == seen(browser)["action"] == [4, 5, 6, 7, 8, 9]
    browser.click(".step[data-t='6'] .when")
    assert seen(browser)["agent_pos"] == [7, 8, 9]


@in_browser
def test_a_reader_hides_changes_samples_asks_for_a_return_and_acts(browser):
    browser.click("#show")
    assert seen(browser)["action"] == list(range(T)) and "Nothing" in text_of(browser, "#say")
    browser.click(entry("key_pos", 3))
    assert seen(browser)["key_pos"] == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert re.match("One entry is asked for.* 0.0.. nats", text_of(browser, "#say"))
    browser.click("#hide")
    browser.run("document.querySelector('[name=moves][value=key_pos]').click()")
    # the third column, second row of the first grid: its ring is 0.6 of 5.2 wide
    browser.click(".step[data-t='0'] .trajectory", (0.6 + 1.5) / 5.2, (0.6 + 3.5) / 5.2)
    assert text_of(browser, entry("key_pos", 0)) == "(2, 4)" and seen(browser)["key_pos"] == [0]
    browser.click(".step[data-t='0'] .trajectory", 0.97, 0.5)
    assert text_of(browser, entry("action", 0)) == "→"
    probability = "shown.model.key_pos[0].length + shown.exact.agent_pos[0][6]"
    assert browser.run(probability) < 17  # the key and the agent share no cell
    browser.click("#fill")
    browser.wait("find('result').textContent")
    drawn = browser.run("document.querySelectorAll('.entry.drawn').length")
    assert drawn == 28 and "log-probability" in text_of(browser, "#result")
    browser.click("#example")
    browser.run("find('target').value = 4; setExample(1)")
    browser.click("#act")
    browser.wait("find('result').textContent")
    assert re.fullmatch(r"Asked for \+4, it earned [+−]?\d\.", text_of(browser, "#result"))
    played = json.loads(browser.run("JSON.stringify(shown.values)"))
    arrays = {name: np.array([played[name]]) for name in NAMES}
    assert doorkey.valid_transitions(arrays).all()
    assert seen(browser)["return_to_go"] == [0]
    browser.click(entry("action", 5))  # what was drawn goes as soon as something else begins
    assert browser.run("document.querySelectorAll('.entry.drawn').length") == 0


@in_browser
def test_a_sample_of_the_exact_posterior_has_the_probability_that_the_chain_rule_gives(browser):
    browser.click("#random")
    browser.run("find('who').value = 'exact'")
    fill_three_times(browser)


@in_browser
def test_what_begins_stops_what_is_being_drawn(browser):
    browser.look(1280, 1000)  # with its pauses
    drawn = "document.querySelectorAll('.entry.drawn').length"
    for button in ("#fill", "#act"):
        browser.click(button)
        browser.wait(f"{drawn} > 2")
        browser.click(entry("action", 9))
        browser.run("new Promise(done => setTimeout(done, 300))")
        assert browser.run(drawn) == 0 and text_of(browser, "#result") == ""


@in_browser
def test_the_impossible_is_said_in_words(browser):
    browser.click("#hide")
    browser.run("find('time').value = 4; find('time').dispatchEvent(new Event('input'))")
    choose = "find('value-{}').value = {}; find('value-{}').dispatchEvent(new Event('change'))"
    browser.run(choose.format("key_pos", 9, "key_pos"))  # in the wall
    words = "This cannot happen in DoorKey: key at t = 4, column 3, row 2 (a wall)."
    assert text_of(browser, "#say") == words
    assert browser.run("document.querySelector('.clash').ariaLabel").startswith("key at t = 4")
    browser.click("#fill")
    assert "nothing to draw" in text_of(browser, "#result")
    browser.run("setAll(false); setValue('agent_pos', 4, 0); setValue('agent_pos', 5, 2)")
    assert text_of(browser, "#say").startswith("These cannot all be true: agent at t = 4")
    for script in (
        "setAll(false); setValue('return_to_go', 0, 16)",
        "setValue('agent_pos', 0, 15)",
    ):
        browser.run(script)
        assert "cannot" in text_of(browser, "#say")
    assert "NaN" not in browser.run("document.body.innerText")
    browser.run("setMask(state.see); act('model', 6)")  # the agent stands right of the door
    assert text_of(browser, "#result").startswith("No episode begins so")


@in_browser
def test_a_return_out_of_reach_is_overlooked_while_acting(browser):
    browser.run("act('exact', 10)")
    browser.wait("find('result').textContent")
    assert "out of reach" in text_of(browser, "#say") and "earned" in text_of(browser, "#result")


@in_browser
def test_a_stroke_of_the_mouse_paints(browser):
    def at(t):
        box = f"document.querySelector({entry('action', t)!r}).getBoundingClientRect()"
        return browser.run(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({box})")

    browser.drag(entry("action", 2), at(3), at(4), at(5))
    assert seen(browser)["action"] == [2, 3, 4, 5]


@in_browser
def test_keys_alone_reach_and_change_every_entry(browser):
    browser.run("find('example').focus()")
    browser.key("Tab")
    for name in ["ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight"]:
        browser.key(name)
    assert browser.run("document.activeElement.ariaLabel") == "action at t = 2: hidden"
    said = browser.run("document.activeElement.ariaDescription")
    assert re.match(r"the model says up 0\.\d\d or right 0\.\d\d; exactly up ", said), said
    browser.key("Space")
    assert seen(browser)["action"] == [2]
    browser.key("Tab")
    assert browser.run("document.activeElement.id") == "value-agent_pos"


@in_browser
@pytest.mark.parametrize("tab", ["doorkey", pytest.param("maze", marks=in_maze)])
def test_a_screen_reader_finds_a_name_for_each_control(browser, tab):
    open_tab(browser, tab)
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    roles = ("button", "combobox", "slider", "checkbox", "radio", "tab")
    named = [(n["role"]["value"], n["name"]["value"]) for n in nodes if not n["ignored"]
             and n["role"]["value"] in roles]  # fmt: skip
    assert len(named) > {"doorkey": 70, "maze": 15}[tab] and all(name for _, name in named)
    assert {role for role, _ in named} >= {"button", "slider"}


@in_browser
@pytest.mark.parametrize("width", [380, 800, 1280])
@pytest.mark.parametrize("tab", ["doorkey", pytest.param("maze", marks=in_maze)])
def test_it_fits_its_window_in_both_themes(browser, tab, width):
    papers, picture = set(), {"doorkey": ".exact.panel", "maze": "#field"}[tab]
    open_tab(browser, tab)
    for dark in (False, True):
        browser.look(width, 800, dark=dark, calm=True)
        assert browser.run("document.documentElement.scrollWidth") <= width
        papers.add(browser.run("getComputedStyle(document.body).backgroundColor"))
        box = f"document.querySelector({picture!r}).getBoundingClientRect()"
        assert 60 < browser.run(f"{box}.width") <= width
    assert len(papers) == 2


@in_browser
def test_it_loads_in_a_second_and_answers_in_50_ms(browser, built):
    """By the work of its thread: others may keep the machine busy."""
    browser.open(built)
    loading, click = (
        browser.busy(),
        "document.querySelector({!r}).click(), document.body.offsetHeight",
    )
    browser.run("pause(300)")
    answers = {"doorkey": [entry("action", t) for t in range(T)]}
    if MAZE:
        answers["maze"] = [f"#window [data-what=position][data-ago='{n}']" for n in range(5)]
    for tab, selectors in answers.items():
        open_tab(browser, tab)
        spent = []
        for selector in selectors:
            before = browser.busy()
            browser.run(click.format(selector))
            spent.append(browser.busy() - before)
        print(f"{tab}: load {loading:.0f} ms, answer {np.median(spent):.0f} ms")
        assert np.median(spent) < 50
    assert loading < 1000


# ---- the maze --------------------------------------------------------------------------------------


def open_tab(browser, name):
    browser.click(f"#to-{name}")


def as_shown(network):
    """The model of the maze's tab: its weights have eight bits."""
    weights = {name: torch.as_tensor(scale * numbers) for name, (scale, numbers, _) in
               page.rounded(network, 8).items()}  # fmt: skip
    shapes = {name: x.shape for name, x in network.state_dict().items()}
    shown = copy.deepcopy(network)
    shown.load_state_dict({name: weights[name].view(shape) for name, shape in shapes.items()})
    shown.position.copy_(weights["position"])
    return shown


@pytest.fixture
def maze(browser):
    open_tab(browser, "maze")
    return browser


def windows_of_the_maze(n):
    generator = torch.Generator().manual_seed(4)
    demos = maze2d.make_dataset(20, seed=8)
    values = data.Windows(demos, 5).draw(n, generator)
    values = {f.name: values[f.name] for f in demos.factors}
    see, _ = masks.draw("random", n, 5, generator)
    return values, masks.expand(see, demos.factors)


@in_browser
@in_maze
def test_the_driver_of_the_page_is_ours_but_for_eight_bits(maze):
    values, see = windows_of_the_maze(200)
    asked = json.dumps([{name: x.tolist() for name, x in part.items()} for part in (values, see)])
    text = maze.run(
        f"(() => {{ const [values, see] = {asked}; const of = (rows, i) => Object.fromEntries("
        "Object.entries(rows).map(([name, x]) => [name, x[i]])); return JSON.stringify("
        "see.goal.map((_, i) => driver.answer(of(values, i), of(see, i))),"
        " (key, x) => ArrayBuffer.isView(x) ? [...x] : x); })()"
    )
    network = checkpoint.load(str(DRIVER))
    found = differences(json.loads(text), evaluate.answer(as_shown(network), values, see))
    assert set(found) == {"position", "goal", "action"} and max(found.values()) < 1e-3, found
    pushes = [evaluate.answer(x, values, see)["action"] for x in (network, as_shown(network))]
    said = float(re.search(r"changes a push by ([\d.]+)", text_of(maze, "#maze .note"))[1])
    assert float((pushes[0] - pushes[1]).abs().mean()) == pytest.approx(said, abs=0.0005)


@in_browser
@in_maze
def test_the_ball_rolls_as_in_mujoco_and_as_far_from_it_as_the_page_says(maze):
    with np.load(ROOT / "tests" / "data" / "maze2d_physics.npz") as recording:
        begin = [recording[name].tolist() for name in ("qpos0", "qvel0", "actions")]
        there = recording["qpos"]  # (50, 200, 2)
    places = maze.run(
        f"(([places, velocities, pushes]) => places.map((position, i) => {{"
        " let ball = { position, velocity: velocities[i] };"
        " return pushes[i].map(push => (ball = step(ball, push, walls)).position);"
        f" }}))({json.dumps(begin)})"
    )
    power = re.search(r"less than 10(\S+) m", text_of(maze, "#maze .note"))[1].replace("−", "-")
    assert np.linalg.norm(np.array(places) - there, axis=2).max() < 10.0 ** int(power)


@in_browser
@in_maze
def test_it_drives_as_rollout_py_does(maze):
    starts, goals = [[1, 1], [1.1, 5.9], [5.8, 1.1]], [[4, 4], [4, 2], [3, 4]]
    env = maze2d.Maze2D("medium", n=3)
    env.set_state(np.array(starts), np.zeros((3, 2)), np.array(goals))
    network = as_shown(checkpoint.load(str(DRIVER)))
    for mode, number in (("bc_states", 1), ("bc", 2)):
        env.set_state(np.array(starts), np.zeros((3, 2)), np.array(goals))
        values, _ = rollout.play(network, env, mode, horizon=60)
        maze.click(f"#modes button:nth-child({number})")
        for i, (start, goal) in enumerate(zip(starts, goals)):
            maze.run(f"put('start', {start}), put('goal', {goal}), void drive()")
            maze.wait("ride.path.length >= 60")
            path = maze.run("ride.path.slice(0, 60).map(now => now.position)")
            np.testing.assert_allclose(path, values["position"][i], atol=1e-3)


def ball_and_star(maze):
    return maze.run("[ride.start, ride.goal]")


@in_browser
@in_maze
def test_a_reader_drags_the_ball_and_the_star_drives_and_hides(maze):
    def at(x, y):
        there = f"new DOMPoint({x}, {-y}).matrixTransform(find('field').getScreenCTM())"
        return maze.run(f"(p => [p.x, p.y])({there})")

    maze.drag("[data-what=start] .grip", at(1.5, 1), at(4.25, 1.6))
    maze.wait("find('report').textContent")
    start, goal = ball_and_star(maze)
    np.testing.assert_allclose(start, [4.2, 1.6], atol=0.02)  # as near as it gets to the wall
    from_, to = map(float, re.findall(r"([\d.]+) m", text_of(maze, "#report")))
    assert from_ == pytest.approx(np.hypot(*np.subtract(start, goal)), abs=0.01) and to < 0.1
    maze.drag("[data-what=goal] .grip", at(2.6, 5.3), at(1.8, 4.9))
    maze.wait("find('report').textContent")
    assert ball_and_star(maze)[1] == [2, 5]
    maze.drag("[data-what=goal] .grip", at(0, 3))
    assert text_of(maze, "#report") == "There is a wall: the goal stays where it is."
    assert ball_and_star(maze)[1] == [2, 5]
    maze.run("find('moment').value = 30; find('moment').dispatchEvent(new Event('input'))")
    assert text_of(maze, "#clock") == "0.30 s"
    before = text_of(maze, "#answer").partition(",")[0]
    assert maze.run("document.querySelectorAll('#ball .guess').length") == 0
    maze.click("#window [data-what=position][data-ago='0']")
    assert maze.run("document.querySelectorAll('#ball .guess').length") == 1
    assert text_of(maze, "#answer").partition(",")[0] != before
    now = maze.run("document.querySelector('#window .position:nth-last-child(7)').ariaLabel")
    assert re.fullmatch(r"position at now: hidden, perhaps −?[\d.]+, −?[\d.]+", now)
    for ago in range(1, 5):
        maze.click(f"#window [data-what=position][data-ago='{ago}']")
    assert text_of(maze, "#answer").endswith("It is shown no position, and so no goal either.")
    maze.click("#drive")
    maze.wait("find('report').textContent")
    assert "NaN" not in maze.run("document.body.innerText")


@in_browser
@in_maze
def test_keys_alone_open_the_tab_and_move_the_ball_and_the_star(browser):
    browser.run("find('to-doorkey').focus()")
    browser.key("ArrowRight")
    assert browser.run("find('doorkey').hidden") and not browser.run("find('maze').hidden")
    (x, y), (i, j) = ball_and_star(browser)
    browser.key("Tab")
    assert browser.run("document.activeElement.ariaLabel") == "goal"
    browser.key("ArrowUp")
    browser.key("Tab")
    for _ in range(5):
        browser.key("ArrowRight")
    (x2, y2), goal = ball_and_star(browser)
    assert goal == [i, j + 1] and x2 > x + 0.5 and y2 == y
    assert browser.run("document.activeElement.ariaValueText") == f"{x2:.1f}, {y2:.1f} metres"
    browser.key("Tab")
    browser.key("Space")
    browser.wait("find('report').textContent")


@in_browser
@in_maze
def test_another_start_stops_a_ride(maze):
    maze.look(1280, 1000)  # with its pauses
    maze.click("#drive")
    maze.wait("ride.path.length > 10")
    maze.run("put('start', [2, 2])")
    maze.run("pause(200)")
    assert maze.run("ride.path.length") == 1 and text_of(maze, "#report") == ""


@in_browser
def test_without_a_model_of_the_maze_there_is_no_tab(running, tmp_path):
    torch.manual_seed(0)
    network = model.build(model.ModelConfig(n_embd=16, n_head=2, n_layer=1), FACTORS).eval()
    path, tests = tmp_path / "page.html", doorkey.make_dataset(10, seed=1)
    path.write_text(page.build(network, {}, tests))
    running.errors.clear()
    running.open(path)
    assert running.run("find('tabs').hidden && find('maze').hidden && !find('doorkey').hidden")
    assert not running.errors


# ---- the file --------------------------------------------------------------------------------------


def test_the_page_is_one_file_below_2_mb_that_names_no_other(built):
    text = built.read_text(encoding="utf-8")
    assert len(text.encode()) < 2e6
    readable = re.sub(r'-weights">.*', "", text)  # in which any letters may meet
    assert not re.search(r"https?:|@import|url\(|<link|src=|\bfetch\(", readable)


@in_maze
def test_the_page_of_the_repository_is_what_its_command_makes(run_warm, tmp_path):
    text = (ROOT / "assets" / "README.md").read_text(encoding="utf-8")
    script, *flags = shlex.split(re.search(r"`python (page\.py [^`]+)`", text)[1])
    [kept] = [flag.partition("=")[2] for flag in flags if flag.startswith("--out=")]
    flags = [flag for flag in flags if not flag.startswith("--out=")]
    good(run_warm(script, *flags, f"--out={tmp_path / 'page.html'}", cwd=ROOT))
    assert (tmp_path / "page.html").read_bytes() == (ROOT / kept).read_bytes()


def test_the_masks_are_those_of_the_tasks_in_order_of_time():
    for name, pair in page.task_masks().items():
        drawn = masks.draw(name, 100, T, torch.Generator().manual_seed(0), balanced=True)
        possible = {
            str((see.int().tolist(), predict.int().tolist())) for see, predict in zip(*drawn)
        }
        plain = {key: [[[*map(int, x)] for x in mask] for mask in pair[key]] for key in pair}
        assert {str(both) for both in zip(plain["see"], plain["predict"])} == possible


def test_rows_of_weights_lose_half_a_step_of_their_largest_at_most():
    network = model.build(model.ModelConfig(n_embd=16, n_head=2, n_layer=1), FACTORS)
    for name, (scale, numbers, size) in page.rounded(network, 8).items():
        exact = np.atleast_2d(dict(network.state_dict(), position=network.position)[name].numpy())
        assert size == (8 if min(exact.shape) > 1 and name != "position" else 16)
        largest = np.abs(exact).max(axis=1, keepdims=True)
        assert (np.abs(scale * numbers - exact) <= 0.51 * largest / (2 ** (size - 1) - 1)).all()


@pytest.mark.parametrize(
    "settings, dataset, reason",
    [
        ({"model_type": "dt"}, "doorkey", "has model_type='dt'"),
        ({"layout": "entry"}, "doorkey", "has layout='entry'"),
        ({"hidden": "zero"}, "doorkey", "has hidden='zero'"),
        ({"context": 5}, "doorkey", "has context=5, not 10"),
        ({"positions": "timestep"}, "doorkey", "has positions='timestep'"),
        ({}, "doorkey16", "of the world 'doorkey16'"),
    ],
)
def test_what_the_page_cannot_show_is_refused(
    settings, dataset, reason, run_warm, refused, tmp_path
):
    factors = doorkey.factors(16 if dataset == "doorkey16" else 6)
    network = model.build(model.ModelConfig(n_embd=16, n_head=2, n_layer=1, **settings), factors)
    config = {"dataset": dataset, "num_trajectories": 10, "data_seed": 0}
    saved = checkpoint.to_plain(network) | {"config": config | asdict(network.config)}
    checkpoint.save(str(tmp_path / "best.pt"), saved)
    line = refused(run_warm("page.py", f"--out_dir={tmp_path}", "--out=p.html", cwd=tmp_path))
    assert reason in line and not (tmp_path / "p.html").exists()
