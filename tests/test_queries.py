"""The query language: what a question means, and where a mistake in it is."""

import pytest
import torch
from test_sample import FACTORS, GOAL, T, ask

import queries
from data import Factor


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
        ("return[0],return_to_go[2]", {"return_to_go": [0, 2]}),
    ],
)
def test_mask_of_a_query(text, expected):
    parsed = queries.parse_mask(text, FACTORS, T)
    assert list(parsed) == [f.name for f in FACTORS]
    assert {name: mask.nonzero()[:, 0].tolist() for name, mask in parsed.items() if mask.any()} == expected


@pytest.mark.parametrize(
    "text, place, reason",
    [
        ("stat[0]", "character 1", "did you mean 'state'"),
        ("state[0], actoin[1]", "character 11", "did you mean 'action'"),
        ("state", "the end", "expected '['"),
        ("state[0", "the end", "expected ']'"),
        ("state[0],", "the end", "expected a name"),
        ("state[0] state[1]", "character 10", "commas"),
        ("state[0]]", "character 9", "commas"),
        ("state[1:x]", "character 9", "expected ']'"),
        ("state[]", "character 7", "timestep or a slice"),
        ("state[1 2]", "character 7", "timestep or a slice"),
        ("state[--1]", "character 7", "timestep or a slice"),
        ("state[0:1:2:3]", "character 7", "timestep or a slice"),
        ("state[10]", "character 7", "outside a window of 10"),
        ("state[0],action[-11]", "character 17", "outside a window of 10"),
        ("state[::0]", "character 7", "cannot be 0"),
        ("state[5:2]", "character 7", "selects none"),
        ("[0]", "character 1", "expected a name"),
        ("state[0]=3", "character 9", "commas"),
    ],
)
def test_mistakes_in_a_query_are_located(text, place, reason):
    with pytest.raises(ValueError) as error:
        queries.parse_mask(text, FACTORS, T)
    message = str(error.value)
    assert f"at {place} of {text!r}" in message and reason in message
    queries.parse_mask(message.rsplit("example: ", 1)[1].strip("'"), FACTORS, T)  # the example is a good one


def test_values_of_a_query():
    parsed = queries.parse_values("agent_pos[0]=5, action[2:4]=1,action[3]=2", FACTORS, T)
    assert parsed["agent_pos"][0].nonzero()[:, 0].tolist() == [0] and parsed["agent_pos"][1][0] == 5
    assert parsed["action"][0].nonzero()[:, 0].tolist() == [2, 3] and parsed["action"][1][2:4].tolist() == [1, 2]
    place = Factor("position", "STATE", "continuous", 2)
    mask, values = queries.parse_values("position[-1]=(1.0, -2.5e-1)", [place], 3)["position"]
    assert (
        mask.tolist() == [False, False, True] and values[2].tolist() == [1.0, -0.25] and values.dtype == torch.float32
    )


@pytest.mark.parametrize(
    "text, place, reason",
    [
        ("agent_pos[0]", "the end", "needs a value"),
        ("agent_pos[0]=", "the end", "expected a number"),
        ("agent_pos[0]=16", "character 14", "from 0 to 15"),
        ("action[0]=-1", "character 11", "from 0 to 3"),
        ("action[0]=1.5", "character 11", "from 0 to 3"),
        ("action[0]=(1,2)", "character 11", "from 0 to 3"),
        ("action[0]=(1", "the end", "expected ')'"),
        ("state[0]=1", "character 1", "agent_pos or key_pos"),
        ("action[0]=1,,action[1]=1", "character 13", "expected a name"),
    ],
)
def test_mistakes_in_values_are_located(text, place, reason):
    with pytest.raises(ValueError) as error:
        queries.parse_values(text, FACTORS, T)
    message = str(error.value)
    assert f"at {place} of {text!r}" in message and reason in message
    queries.parse_values(message.rsplit("example: ", 1)[1].strip("'"), FACTORS, T)


def test_query_puts_together_what_is_seen_and_wanted(doorkey_data):
    asked = ask(doorkey_data, see=GOAL, given="action[2]=1")
    assert (asked.values["action"][:, 2] == 1).all() and asked.see["action"][:, 2].all()
    assert not any((asked.see[name] & asked.predict[name]).any() for name in asked.see)
    assert asked.predict["action"].sum() == 9 * len(doorkey_data) and asked.predict["agent_pos"].sum() == 8 * len(
        doorkey_data
    )
    assert not asked.predict["return_to_go"].any()
    span = ask(doorkey_data, task="span(3,8)", see="action[3]")
    assert span.predict["agent_pos"][0].nonzero()[:, 0].tolist() == [3, 4, 5, 6, 7]
    assert span.predict["action"][0].nonzero()[:, 0].tolist() == [2, 4, 5, 6, 7]
    for text, reason in [
        (dict(see="state[:],action[:]"), "nothing is left"),
        (dict(predict="return[0]"), "cannot be predicted"),
        (dict(task="pust"), "past"),
        (dict(see=GOAL, predict=GOAL), "nothing is left"),
    ]:
        with pytest.raises(ValueError, match=reason):
            ask(doorkey_data, **text)
