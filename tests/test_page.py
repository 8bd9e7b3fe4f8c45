"""The page: its model and its posterior are ours, and a reader can use it, in a real browser."""

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
import doorkey
import evaluate
import masks
import model
import page
from data import Trajectories

T, FACTORS = doorkey.LENGTH, doorkey.factors()
NAMES = [f.name for f in FACTORS]
QUERIES = ROOT / "assets" / "minigrid_queries"
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
    good(run_warm("page.py", f"--out_dir={QUERIES}", f"--out={path}", cwd=path.parent))
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
    buttons = "[...document.querySelectorAll('.entry[aria-pressed=true]')]"
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
    assert not running.errors


# ---- a reader's path -------------------------------------------------------------------------------


@in_browser
def test_the_buttons_of_the_tasks_and_the_slider_show_their_masks(browser):
    first = json.loads(browser.run("JSON.stringify(DATA.masks)"))
    for number, task in enumerate(masks.EIGHT):
        browser.click(f"#tasks button:nth-child({number + 1})")
        see = np.array(first[task]["see"][0])  # (T, 3) at t = 0
        expected = {
            f.name: np.flatnonzero(see[:, masks.GROUPS.index(f.group)]).tolist() for f in FACTORS
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
    for _ in range(3):
        browser.click("#fill")
        browser.wait("find('result').textContent")
        drawn, exactly = re.findall(r"−?[\d.]+(?= )", text_of(browser, "#result"))
        assert drawn == exactly


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
        x, y = browser.run(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({box})")
        return {"x": x, "y": y, "button": "left", "clickCount": 1}

    browser.call("Input.dispatchMouseEvent", type="mousePressed", **at(2))
    for t in (3, 4, 5):
        browser.call("Input.dispatchMouseEvent", type="mouseMoved", buttons=1, **at(t))
    browser.call("Input.dispatchMouseEvent", type="mouseReleased", **at(5))
    assert seen(browser)["action"] == [2, 3, 4, 5]


@in_browser
def test_keys_alone_reach_and_change_every_entry(browser):
    browser.run("find('example').focus()")
    browser.key("Tab")
    for name in ["ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight"]:
        browser.key(name)
    assert browser.run("document.activeElement.ariaLabel") == "action at t = 2: hidden"
    browser.key("Space")
    assert seen(browser)["action"] == [2]
    browser.key("Tab")
    assert browser.run("document.activeElement.id") == "seen-agent_pos"


@in_browser
def test_a_screen_reader_finds_a_name_for_each_control(browser):
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    roles = ("button", "combobox", "slider", "checkbox", "radio")
    named = [(n["role"]["value"], n["name"]["value"]) for n in nodes if not n["ignored"]
             and n["role"]["value"] in roles]  # fmt: skip
    assert len(named) > 70 and all(name for _, name in named)
    assert {role for role, _ in named} == set(roles)


@in_browser
@pytest.mark.parametrize("width", [380, 800, 1280])
def test_it_fits_its_window_in_both_themes(browser, width):
    papers = set()
    for dark in (False, True):
        browser.look(width, 800, dark=dark, calm=True)
        assert browser.run("document.documentElement.scrollWidth") <= width
        papers.add(browser.run("getComputedStyle(document.body).backgroundColor"))
        assert (
            browser.run("document.querySelector('.exact.panel').getBoundingClientRect().width") > 60
        )
    assert len(papers) == 2


@in_browser
def test_it_loads_in_a_second_and_answers_in_50_ms(browser, built):
    loads, answers = [], []
    for _ in range(3):
        browser.open(built)
        browser.wait("performance.getEntriesByType('navigation')[0].loadEventEnd > 0")
        loads.append(browser.run("performance.getEntriesByType('navigation')[0].loadEventEnd"))
    browser.wait("find('say').textContent.includes('answered')")
    browser.run("pause(300)")
    for t in range(T):  # from the click to the moment when all is drawn into the page
        click = (
            f"const t = performance.now(); document.querySelector({entry('action', t)!r}).click()"
        )
        laid_out = "document.body.offsetHeight"
        answers.append(
            browser.run(f"(() => {{ {click}; {laid_out}; return performance.now() - t }})()")
        )
    print(f"load {min(loads):.0f} ms, answer {np.median(answers):.0f} ms")
    assert min(loads) < 1000 and np.median(answers) < 50


# ---- the file --------------------------------------------------------------------------------------


def test_the_page_is_one_file_below_2_mb_that_names_no_other(built):
    text = built.read_text(encoding="utf-8")
    assert len(text.encode()) < 2e6
    assert not re.search(r"https?:|@import|url\(|<link|src=|\bfetch\(", text)


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
        made = [str((see, predict)) for see, predict in zip(pair["see"], pair["predict"])]
        assert set(made) == possible


def test_weights_lose_little_on_their_way():
    numbers = torch.randn(1000) * torch.logspace(-6, 2, 1000)
    content = np.frombuffer(page.base64.b64decode(page.encode([numbers])), dtype=np.uint8)
    whole = np.zeros((1000, 4), dtype=np.uint8)
    whole[:, 1:] = content.reshape(-1, 3)
    back = whole.reshape(-1).view("<f4")
    assert (np.abs(back / numbers.numpy() - 1) < 2e-5).all()


@pytest.mark.parametrize(
    "settings, dataset, reason",
    [
        ({"model_type": "dt"}, "doorkey", "has model_type='dt'"),
        ({"layout": "entry"}, "doorkey", "has layout='entry'"),
        ({"hidden": "zero"}, "doorkey", "has hidden='zero'"),
        ({"context": 5}, "doorkey", "has context=5"),
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
