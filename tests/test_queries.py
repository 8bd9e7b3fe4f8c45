"""The query language of sample.py: what a question means, and where a mistake in it is."""

import pytest
import torch

import doorkey
import sample
from data import Factor

FACTORS = doorkey.factors()
PLACE = Factor("position", "STATE", "continuous", 2)
T = 10


def marked(masks):
    """{factor: timesteps} of the masks (1, T) of one query, without those that are empty."""
    found = {name: mask[0].nonzero()[:, 0].tolist() for name, mask in masks.items()}
    return {name: timesteps for name, timesteps in found.items() if timesteps}


def blank(B=1, factors=FACTORS):
    """Windows of zeros, {factor: (B, T) or (B, T, k)}."""
    values = {}
    for f in factors:
        whole = f.kind == "categorical"
        values[f.name] = torch.zeros(B, T, dtype=torch.long) if whole else torch.zeros(B, T, f.size)
    return values


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", {}),
        ("   ", {}),
        ("state[0],state[9]", {"agent_pos": [0, 9], "key_pos": [0, 9]}),
        (" action[ : ] ", {"action": list(range(10))}),
        ("agent_pos[-1], key_pos[-3:]", {"agent_pos": [9], "key_pos": [7, 8, 9]}),
        ("action[1:9:3],action[0]", {"action": [0, 1, 4, 7]}),
        ("action[::-4]", {"action": [1, 5, 9]}),
        ("state[8:99]", {"agent_pos": [8, 9], "key_pos": [8, 9]}),
        ("return[0],return_to_go[2],return[0]", {"return_to_go": [0, 2]}),
    ],
)
def test_the_entries_that_a_text_names(text, expected):
    entries = sample.parse(text, FACTORS, T)
    assert set(entries) == {(name, t) for name, timesteps in expected.items() for t in timesteps}
    if text.strip():
        asked = sample.query(blank(), FACTORS, see=text, predict="state[:], action[:]")
        assert marked(asked.see) == expected


@pytest.mark.parametrize("name", ["स्थिति", "ตำแหน่ง", "位置", "e\u0301tat", "ключ_2"])
def test_a_factor_of_any_alphabet_can_be_asked_for(name):
    factors = [Factor(name, "STATE", "categorical", 3)]
    assert set(sample.parse(f"{name}[0], {name}[-1]", factors, T)) == {(name, 0), (name, 9)}
    assert sample.parse(f"{name}[2]=1", factors, T, with_values=True) == {(name, 2): 1}


@pytest.mark.parametrize(
    "text, place, reason",
    [
        ("stat[0]", "character 1", "did you mean 'state'"),
        ("state[0], actoin[1]", "character 11", "did you mean 'action'"),
        ("velocity[0]", "character 1", "'key_pos' or"),
        ("state", "the end", "expected '['"),
        ("state[0", "the end", "expected ']'"),
        ("state[0],", "the end", "expected a name"),
        ("state[0],,action[1]", "character 10", "expected a name"),
        ("state[0] state[1]", "character 10", "commas"),
        ("state[0]]", "character 9", "commas"),
        ("state[1:x]", "character 9", "expected ']'"),
        ("state[]", "character 7", "like [3]"),
        ("state[1 2]", "character 7", "like [3]"),
        ("state[--1]", "character 7", "like [3]"),
        ("state[0:1:2:3]", "character 7", "like [3]"),
        ("state[10]", "character 7", "[10] is outside of 10 timesteps"),
        ("state[0\n0]", "character 7", "[0 0] is outside"),
        ("state[0],action[-11]", "character 17", "[-11] is outside of 10 timesteps"),
        ("state[::0]", "character 7", "like [3]"),
        ("state[5:2]", "character 7", "[5:2] is outside"),
        ("[0]", "character 1", "expected a name"),
        ("state[0]=3", "character 9", "commas"),
    ],
)
def test_mistakes_are_located(text, place, reason):
    with pytest.raises(ValueError) as error:
        sample.parse(text, FACTORS, T)
    message = str(error.value)
    assert f"at {place} of {text!r}" in message and reason in message and "\n" not in message
    example = message.rsplit("example: ", 1)[1].strip("'")
    assert sample.parse(example, FACTORS, T), "the example is a good one"


def test_values_are_given():
    text = "agent_pos[0]=5, action[2:4]=1,action[3]=1"
    entries = sample.parse(text, FACTORS, T, with_values=True)
    assert entries == {("agent_pos", 0): 5, ("action", 2): 1, ("action", 3): 1}
    entries = sample.parse("position[-1]=(1.0, -2.5e-1)", [PLACE], 3, with_values=True)
    assert entries == {("position", 2): (1.0, -0.25)}
    asked = sample.query(blank(2), FACTORS, given=text)
    assert marked(asked.see) == {"agent_pos": [0], "action": [2, 3]}
    assert asked.values["action"][:, 1:5].tolist() == [[0, 1, 1, 0]] * 2
    asked = sample.query(blank(2, [PLACE]), [PLACE], given="state[3]=(1, 2)")
    assert asked.values["position"][:, 3].tolist() == [[1, 2]] * 2


@pytest.mark.parametrize(
    "text, place, reason",
    [
        ("agent_pos[0]", "the end", "and a value"),
        ("agent_pos[0]=", "the end", "and a value"),
        ("agent_pos[0]=16", "character 14", "from 0 to 15"),
        ("agent_pos[0]=x", "character 14", "'x'"),
        ("action[0]=-1", "character 11", "from 0 to 3"),
        ("action[0]=1.5", "character 11", "from 0 to 3"),
        ("action[0]=1e400", "character 11", "from 0 to 3"),
        ("action[0]=nan", "character 11", "from 0 to 3"),
        ("action[0]=(1,2)", "character 11", "from 0 to 3"),
        ("action[0]=(1", "character 11", "and a value"),
        ("state[0]=1", "character 1", "agent_pos or key_pos"),
        ("action[0]=1,,action[1]=1", "character 13", "expected a name"),
        ("action[2:4]=1, action[-7]=2", "character 27", "action[3] has another value"),
        ("position[0]=1", "character 13", "2 dimensions"),
        ("position[0]=(1,2,3)", "character 13", "2 dimensions"),
        ("position[0]=(1e39,0)", "character 13", "finite"),
    ],
)
def test_mistakes_in_values_are_located(text, place, reason):
    with pytest.raises(ValueError) as error:
        sample.parse(text, [*FACTORS, PLACE], T, with_values=True)
    message = str(error.value)
    assert f"at {place} of {text!r}" in message and reason in message and "\n" not in message
    example = message.rsplit("example: ", 1)[1].strip("'")
    assert sample.parse(example, [*FACTORS, PLACE], T, with_values=True)


def test_a_query_puts_together_what_is_seen_and_wanted():
    goal = "state[0], state[9]"
    asked = sample.query(blank(3), FACTORS, see=goal, given="action[2]=1")
    assert (asked.values["action"][:, 2] == 1).all() and asked.see["action"][:, 2].all()
    assert not any((asked.see[name] & asked.predict[name]).any() for name in asked.see)
    assert marked(asked.predict) == {
        "agent_pos": list(range(1, 9)),
        "key_pos": list(range(1, 9)),
        "action": [0, 1, *range(3, 10)],
    }
    asked = sample.query(blank(), FACTORS, see=goal, predicted=[FACTORS[2]])
    assert list(marked(asked.predict)) == ["action"], "by default what the model predicts"
    span = sample.query(blank(), FACTORS, task="span(3,8)", see="action[3]")
    assert marked(span.predict)["agent_pos"] == [3, 4, 5, 6, 7]
    assert marked(span.predict)["action"] == [2, 4, 5, 6, 7]
    narrow = sample.query(blank(), FACTORS, task="span(3,8)", predict="action[4]")
    assert marked(narrow.predict) == {"action": [4]}
    assert marked(narrow.see)["action"] == [0, 1, 8, 9]
    for text, reason in [
        (dict(see="state[:],action[:]"), "nothing is left"),
        (dict(task="pust"), "past"),
        (dict(see=goal, predict=goal), "nothing is left"),
    ]:
        with pytest.raises(ValueError, match=reason):
            sample.query(blank(), FACTORS, **text)
