"""Whatever the text: settings and queries are understood, or refused in one line that says where."""

import configurator

import math
import re

import pytest
import torch
from conftest import ROOT
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import doorkey
import run as study
import sample
from data import Factor

settings.register_profile(
    "ours",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("ours")

# ---- settings --------------------------------------------------------------------------------------

DEFAULTS = {
    "task": "random",
    "seed": 0,
    "batch_size": 100,
    "learning_rate": 1e-3,
    "compile": False,
    "target_return": "x1.2",
    "env": None,
}
KEYS = st.sampled_from(sorted(DEFAULTS))
BITS = ["=", "--", "-", "None", "True", "1e", "_", "0x1", ".", "nan", "inf", " ", "\n", "\0", "é"]
TEXT = st.lists(st.sampled_from([*BITS, "٣", "½"]) | st.text(max_size=3) | KEYS).map("".join)
VALUE = TEXT | st.integers() | st.floats()
FLAG = TEXT | TEXT.map("--{}".format) | st.builds("--{}={}".format, KEYS, VALUE)
OF_TYPE = {
    bool: st.booleans(),
    int: st.integers(),
    float: st.floats(allow_nan=False),
    str: st.text(),
    type(None): st.none(),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def of_their_types(config):
    assert config.keys() == DEFAULTS.keys()
    for key, value in config.items():
        assert DEFAULTS[key] is None or type(value) is type(DEFAULTS[key]), key
    return config


@given(st.lists(FLAG, max_size=4))
@example(["--seed=" + "9" * 5000])
@example(["--seed=3\n4"])
@example(["\0"])
def test_any_command_line_is_taken_or_refused_in_one_line(folder, argv):
    try:
        of_their_types(configurator.override(DEFAULTS, argv))
    except ValueError as error:
        assert str(error) and "\n" not in str(error)


WORDS = ["=", "==", "(", ")", "[", "]", "'", '"', '"""', "#", ":", ",", "\\", "\n", "\t", " ", "\0"]
WORDS += ["\ufeff", "1", "0.5", "1e400", "True", "None", "seed = 3\n", "task = 'past'\n", "é"]


@given(st.lists(st.sampled_from(WORDS) | KEYS).map("".join))
@example("learning_rate = 10**400")
@example("seed = " + "9" * 5000)
@example("seed = 1 (2)")
@example("raise SystemExit")
@example("raise ValueError('two\\nlines')")
@example("target_return = 2")
@example("env = [1]")
def test_any_config_file_is_taken_or_refused_in_one_line(folder, recwarn, text):
    (folder / "some.py").write_text(text, encoding="utf-8")
    try:
        of_their_types(configurator.override(DEFAULTS, ["some.py"]))
    except ValueError as error:
        assert str(error) and "\n" not in str(error)
    assert not recwarn.list, "a warning is a second line"


@given(st.fixed_dictionaries({key: OF_TYPE[type(x)] for key, x in DEFAULTS.items()}))
def test_good_settings_come_back_from_flags_and_from_files(folder, wanted):
    flags = [f"--{key}={value}" for key, value in wanted.items()]
    assert configurator.override(DEFAULTS, flags) == wanted
    infinite = [key for key, value in wanted.items() if value in (math.inf, -math.inf)]
    written = wanted | dict.fromkeys(infinite, 0.0)  # Python has no literal for infinity
    text = "".join(f"{key} = {value!r}\n" for key, value in written.items())
    (folder / "some.py").write_text(text, encoding="utf-8")
    assert configurator.override(DEFAULTS, ["some.py"]) == written


def test_the_settings_of_training_come_back_from_what_a_run_prints():
    defaults = study.train_defaults()
    assert {"task", "model_type", "max_timestep", "layout"} <= defaults.keys()
    flags = [f"--{key}={value}" for key, value in defaults.items()]
    assert configurator.override(defaults, flags) == defaults


def test_every_config_sets_only_what_train_knows():
    defaults = study.train_defaults()
    for path in sorted(ROOT.glob("config/*.py")):
        assert configurator.override(defaults, [str(path)])["out_dir"] == f"out/{path.stem}"


# ---- queries ---------------------------------------------------------------------------------------

FACTORS = [
    *doorkey.factors(),
    Factor("position", "STATE", "continuous", 2),
    Factor("speed", "STATE", "continuous", 1),
]
T = 10
MESSAGE = re.compile(r"malformed query at (?:character (\d+)|the end) of ")
NAMES = st.sampled_from(sorted(sample.names_of(FACTORS)))
PIECES = ["::", "0", "3", "10", "-1", "1e400", "1.5", "9" * 5000, "(1,2)", *"[]()=,:+-.٣½ \n\t\0"]
QUERY = st.lists(st.sampled_from(PIECES) | NAMES | st.text(max_size=2)).map("".join)


def place(error, text):
    """The index in the text at which a message says that the mistake is."""
    message = str(error)
    found = MESSAGE.match(message)
    assert found and repr(text) in message and "\n" not in message, message
    at = int(found[1]) - 1 if found[1] else len(text)
    assert 0 <= at <= len(text) and (at < len(text) or not found[1])
    return at


@given(QUERY)
@example("state[" + "9" * 5000 + "]")
@example("state[::" + "9" * 5000 + "]")
@example("action[0]=" + "9" * 5000)
@example("action[0]=0" + "0" * 5000)
@example("position[0]=(1e400,1)")
@example("position[0]=(1e39,1)")
@example("state[" + " " * 2000 + "x")
@example("state[" + " " * 2000 + "--]")
def test_any_query_is_understood_or_its_mistake_is_located(text):
    for with_values in (False, True):
        try:
            found = sample.parse(text, FACTORS, T, with_values)
        except ValueError as error:
            place(error, text)
            continue
        for (name, t), value in found.items():
            assert name in {f.name for f in FACTORS} and 0 <= t < T
            assert (value is not None) == with_values
            assert not with_values or torch.tensor(value).isfinite().all()


ENTRIES = st.lists(st.tuples(NAMES, st.integers(-T, T - 1)), min_size=1, max_size=6)


@given(ENTRIES)
def test_entries_come_back_from_a_query(entries):
    text = " , ".join(f"{name}[{t}]" for name, t in entries)
    names = sample.names_of(FACTORS)
    expected = {(own, t % T) for name, t in entries for own in names[name]}
    assert set(sample.parse(text, FACTORS, T)) == expected


BOUND = st.none() | st.integers(-15, 15)


@given(NAMES, BOUND, BOUND, BOUND)
def test_slices_are_those_of_python(name, first, stop, step):
    bounds = ["" if x is None else str(x) for x in (first, stop, step)]
    text = f"{name}[{':'.join(bounds)}]"
    chosen = list(range(T))[first:stop:step] if step != 0 else []
    if not chosen:
        with pytest.raises(ValueError) as error:
            sample.parse(text, FACTORS, T)
        assert place(error.value, text) == len(name) + 1
    else:
        own = sample.names_of(FACTORS)[name][0]
        found = sorted(t for name, t in sample.parse(text, FACTORS, T) if name == own)
        assert found == sorted(chosen)


NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.integers(0, T - 1), NUMBERS, NUMBERS, st.integers(0, 15))
def test_values_come_back_from_a_query(t, x, y, cell):
    text = f"position[{t}]=({x}, {y}),speed[{t}] = {y},agent_pos[{t}]={cell}"
    expected = {("position", t): (x, y), ("speed", t): (y,), ("agent_pos", t): cell}
    assert sample.parse(text, FACTORS, T, with_values=True) == expected


@given(ENTRIES, st.data())
def test_a_mistake_is_located_in_its_item_and_not_after_it(entries, data):
    text = ",".join(f"{name}[{t}]" for name, t in entries)
    at = data.draw(st.integers(0, len(text)))
    wrong = text[:at] + "!" + text[at:]
    with pytest.raises(ValueError) as error:
        sample.parse(wrong, FACTORS, T)
    assert text.rfind(",", 0, at) < place(error.value, wrong) <= at
