"""Whatever the text: settings and queries are understood, or refused in one line that says where the mistake is."""

import math
import re

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_configurator import DEFAULTS

import configurator
import doorkey
import queries
from data import Factor
from repro import job

settings.register_profile("ours", derandomize=True, database=None, deadline=None, max_examples=200,
                          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
settings.load_profile("ours")

# ---- settings --------------------------------------------------------------------------------------------------------

KEYS = st.sampled_from(sorted(DEFAULTS))
BITS = st.sampled_from(
    ["=", "--", "-", "None", "True", "1e", "_", "0x1", ".", "nan", "inf", " ", "\n", "\0", "٣", "é", "½"]
)
TEXT = st.lists(BITS | st.text(max_size=3) | KEYS).map("".join)
FLAG = TEXT | TEXT.map("--{}".format) | st.builds("--{}={}".format, KEYS, TEXT | st.integers() | st.floats())
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


WORDS = st.sampled_from(
    ["=", "==", "(", ")", "[", "]", "'", '"', '"""', "#", ":", ",", "\\", "\n", "\t", " ", "\0", "\ufeff"]
)
LINES = st.lists(
    WORDS | KEYS | st.sampled_from(["1", "0.5", "1e400", "True", "None", "seed = 3\n", "task = 'past'\n", "é"])
)


@given(LINES.map("".join))
@example("learning_rate = 10**400")
@example("seed = " + "9" * 5000)
@example("seed = 1 (2)")
@example("raise SystemExit")
@example("raise ValueError('two\\nlines')")
@example("target_return = [1]")
def test_any_config_file_is_taken_or_refused_in_one_line(folder, recwarn, text):
    (folder / "some.py").write_text(text, encoding="utf-8")
    try:
        of_their_types(configurator.override(DEFAULTS, ["some.py"]))
    except ValueError as error:
        assert str(error) and "\n" not in str(error)
    assert not recwarn.list, "a warning is a second line"


@given(st.fixed_dictionaries({key: OF_TYPE[type(default)] for key, default in DEFAULTS.items()}))
def test_good_settings_come_back_from_flags_and_from_files(folder, wanted):
    flags = [f"--{key}={value}" for key, value in wanted.items()]
    assert configurator.override(DEFAULTS, flags) == wanted
    infinite = [key for key, value in wanted.items() if value in (math.inf, -math.inf)]
    written = wanted | dict.fromkeys(infinite, 0.0)  # Python has no literal for infinity
    (folder / "some.py").write_text("".join(f"{k} = {v!r}\n" for k, v in written.items()), encoding="utf-8")
    assert configurator.override(DEFAULTS, ["some.py"]) == written


def test_the_settings_of_training_come_back_from_what_a_run_prints():
    defaults = job.train_defaults()
    assert configurator.override(defaults, [f"--{key}={value}" for key, value in defaults.items()]) == defaults


# ---- queries ---------------------------------------------------------------------------------------------------------

FACTORS = [
    *doorkey.factors(),
    Factor("position", "STATE", "continuous", 2),
    Factor("speed", "STATE", "continuous", 1),
]
T = 10
MESSAGE = re.compile(r"malformed query at (?:character (\d+)|the end) of ")
NAMES = st.sampled_from(sorted(queries.names_of(FACTORS)))
PIECES = st.sampled_from([*"[]()=,:+-.٣½ \n\t\0", "::", "0", "3", "10", "-1", "1e400", "1.5", "9" * 5000, "(1,2)"])
QUERY = st.lists(PIECES | NAMES | st.text(max_size=2)).map("".join)


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
    for parse in (queries.parse_mask, queries.parse_values):
        try:
            found = parse(text, FACTORS, T)
        except ValueError as error:
            place(error, text)
            continue
        for name, value in found.items():
            mask, numbers = value if isinstance(value, tuple) else (value, torch.zeros(()))
            assert mask.shape == (T,) and mask.dtype == torch.bool and numbers.isfinite().all(), name


ENTRIES = st.lists(st.tuples(NAMES, st.integers(-T, T - 1)), min_size=1, max_size=6)


@given(ENTRIES)
def test_entries_come_back_from_a_query(entries):
    parsed = queries.parse_mask(" , ".join(f"{name}[{t}]" for name, t in entries), FACTORS, T)
    expected = {(own, t % T) for name, t in entries for own in queries.names_of(FACTORS)[name]}
    assert {(name, t) for name, mask in parsed.items() for t in mask.nonzero()[:, 0].tolist()} == expected


BOUND = st.none() | st.integers(-15, 15)


@given(NAMES, BOUND, BOUND, BOUND)
def test_slices_are_those_of_python(name, first, stop, step):
    write = lambda x: "" if x is None else x
    text = f"{name}[{write(first)}:{write(stop)}:{write(step)}]"
    chosen = list(range(T))[first:stop:step] if step != 0 else []
    if not chosen:
        with pytest.raises(ValueError) as error:
            queries.parse_mask(text, FACTORS, T)
        assert place(error.value, text) == len(name) + 1
    else:
        mask = queries.parse_mask(text, FACTORS, T)[queries.names_of(FACTORS)[name][0]]
        assert mask.nonzero()[:, 0].tolist() == sorted(chosen)


NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.integers(0, T - 1), NUMBERS, NUMBERS, st.integers(0, 15))
def test_values_come_back_from_a_query(t, x, y, cell):
    parsed = queries.parse_values(f"position[{t}]=({x}, {y}),speed[{t}] = {y},agent_pos[{t}]={cell}", FACTORS, T)
    assert all(mask.nonzero()[:, 0].tolist() == [t] for mask, _ in parsed.values())
    assert torch.equal(parsed["position"][1][t], torch.tensor([x, y])) and parsed["agent_pos"][1][t] == cell
    assert torch.equal(parsed["speed"][1][t], torch.tensor([y]))


@given(ENTRIES, st.data())
def test_a_mistake_is_located_in_its_item_and_not_after_it(entries, data):
    text = ",".join(f"{name}[{t}]" for name, t in entries)
    at = data.draw(st.integers(0, len(text)))
    wrong = text[:at] + "!" + text[at:]
    with pytest.raises(ValueError) as error:
        queries.parse_mask(wrong, FACTORS, T)
    assert text.rfind(",", 0, at) < place(error.value, wrong) <= at
