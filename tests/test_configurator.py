"""Settings: what files and flags may say, what they may not, and that a mistake ends in one line."""

import pytest

import configurator

DEFAULTS = {
    "task": "random",
    "init_from": "scratch",
    "seed": 0,
    "n_embd": 128,
    "batch_size": 100,
    "learning_rate": 1e-3,
    "dropout": 0.1,
    "compile": False,
    "decay_lr": True,
    "target_return": None,
}
FILES = {
    "good.py": '"""A page of a lab book."""\n\nseed = 5\nlearning_rate = 1\ntask = "past"\ncompile = True\n',
    "other.py": "seed = 6\n",
    "computed.py": "seed = 2 * 3 + 1\nlearning_rate = 3e-4 / 3\n",
    "none.py": "target_return = None\n",
    "none_for_text.py": "task = None\n",
    "list_for_none.py": "target_return = [1]\n",
    "huge.py": "learning_rate = 10**400\n",
    "warning.py": "seed = 1 (2)\n",
    "number.py": "target_return = 2.5\n",
    "empty.py": "",
    "typo.py": "seed = 5\nlerning_rate = 1e-4\n",
    "private.py": "_seed = 5\n",
    "module.py": "import math\nlearning_rate = math.pi\n",
    "text_for_int.py": 'seed = "5"\n',
    "float_for_int.py": "seed = 5.0\n",
    "bool_for_int.py": "seed = True\n",
    "bool_for_float.py": "dropout = True\n",
    "text_for_float.py": 'learning_rate = "1e-3"\n',
    "int_for_bool.py": "compile = 1\n",
    "int_for_text.py": "task = 3\n",
    "list.py": "seed = [1]\n",
    "none_for_int.py": "seed = None\n",
    "syntax.py": "seed = 5\ntask = = 3\n",
    "crash.py": "seed = 1 / 0\n",
    "undefined.py": "seed = sed\n",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "latin.py").write_bytes(b'task = "\xe9"\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


GOOD = {  # command line: what it changes
    "": {},
    "--seed=3": {"seed": 3},
    "--seed=-3": {"seed": -3},
    "--learning_rate=0.01": {"learning_rate": 0.01},
    "--learning_rate=1e-4": {"learning_rate": 1e-4},
    "--learning_rate=1": {"learning_rate": 1.0},
    "--learning_rate=-0.5": {"learning_rate": -0.5},
    "--task=past": {"task": "past"},
    "--task=a=b=c": {"task": "a=b=c"},
    "--init_from=finetune:out/a=1": {"init_from": "finetune:out/a=1"},
    "--task=": {"task": ""},
    "--task=None": {"task": "None"},
    "--task=7": {"task": "7"},
    "--compile": {"compile": True},
    "--compile=true": {"compile": True},
    "--compile=TRUE": {"compile": True},
    "--compile=1": {"compile": True},
    "--decay_lr=false": {"decay_lr": False},
    "--decay_lr=False": {"decay_lr": False},
    "--decay_lr=FALSE": {"decay_lr": False},
    "--decay_lr=0": {"decay_lr": False},
    "--target_return=None": {},
    "--target_return=3": {"target_return": 3},
    "--target_return=-1.5": {"target_return": -1.5},
    "--seed=1 --seed=2": {"seed": 2},
    "good.py": {"seed": 5, "learning_rate": 1.0, "task": "past", "compile": True},
    "good.py --seed=7": {"seed": 7, "learning_rate": 1.0, "task": "past", "compile": True},
    "--seed=7 good.py": {"seed": 7, "learning_rate": 1.0, "task": "past", "compile": True},
    "--task=future good.py --n_embd=64": {
        "seed": 5,
        "learning_rate": 1.0,
        "task": "future",
        "compile": True,
        "n_embd": 64,
    },
    "--compile=False good.py": {"seed": 5, "learning_rate": 1.0, "task": "past"},
    "good.py other.py": {"seed": 6, "learning_rate": 1.0, "task": "past", "compile": True},
    "other.py good.py": {"seed": 5, "learning_rate": 1.0, "task": "past", "compile": True},
    "computed.py": {"seed": 7, "learning_rate": 3e-4 / 3},
    "none.py": {},
    "number.py": {"target_return": 2.5},
    "empty.py": {},
}

BAD = {  # command line: words that the message must hold
    "--lerning_rate=1": ["lerning_rate", "learning_rate"],
    "--n-embd=3": ["n-embd", "n_embd"],
    "--SEED=3": ["SEED"],
    "--batchsize=3": ["batchsize", "batch_size"],
    "--__name__=x": ["__name__"],
    "--__builtins__=x": ["__builtins__"],
    "--seed=x": ["seed", "x", "int"],
    "--seed=": ["seed", "int"],
    "--seed=1e3": ["seed", "1e3", "int"],
    "--seed=3.0": ["seed", "3.0", "int"],
    "--seed=None": ["seed", "None", "int"],
    "--seed=True": ["seed", "True", "int"],
    "--seed": ["seed"],
    "--task": ["task"],
    "--learning_rate=fast": ["learning_rate", "fast", "float"],
    "--learning_rate=": ["learning_rate", "float"],
    "--learning_rate": ["learning_rate"],
    "--compile=maybe": ["compile", "maybe", "True", "False"],
    "--compile=": ["compile", "True", "False"],
    "--compile=None": ["compile", "None"],
    "-x": ["-x", "--key=value"],
    "-seed=3": ["-seed=3", "--key=value"],
    "--": ["--key=value"],
    "--=3": [""],
    "seed=3": ["seed=3", "--key=value"],
    "missing.py": ["missing.py"],
    ".": ["no config file"],
    "typo.py": ["typo.py", "lerning_rate", "learning_rate"],
    "typo.py --learning_rate=1": ["typo.py", "lerning_rate"],
    "private.py": ["private.py", "_seed"],
    "module.py": ["module.py", "math"],
    "text_for_int.py": ["text_for_int.py", "seed", "'5'", "int"],
    "float_for_int.py": ["float_for_int.py", "seed", "5.0", "int"],
    "bool_for_int.py": ["bool_for_int.py", "seed", "True", "int"],
    "bool_for_float.py": ["bool_for_float.py", "dropout", "True", "float"],
    "text_for_float.py": ["text_for_float.py", "learning_rate", "float"],
    "int_for_bool.py": ["int_for_bool.py", "compile", "1", "bool"],
    "int_for_text.py": ["int_for_text.py", "task", "3", "str"],
    "list.py": ["list.py", "seed", "int"],
    "none_for_text.py": ["none_for_text.py", "task", "None", "str"],
    "list_for_none.py": ["list_for_none.py", "target_return", "[1]"],
    "huge.py": ["huge.py", "learning_rate", "float"],
    "warning.py": ["warning.py", "TypeError"],
    "none_for_int.py": ["none_for_int.py", "seed", "None"],
    "syntax.py": ["syntax.py", "line 2"],
    "crash.py": ["crash.py", "ZeroDivisionError"],
    "undefined.py": ["undefined.py", "sed"],
    "latin.py": ["latin.py"],
    "good.py --seed=2 other.py --sede=1": ["sede", "seed"],
}


@pytest.mark.parametrize("line", GOOD)
def test_a_good_command_line_changes_what_it_names_and_nothing_else(line, folder):
    result = configurator.override(DEFAULTS, line.split())
    expected = DEFAULTS | GOOD[line]
    assert result == expected
    assert {key: type(value) for key, value in result.items()} == {key: type(value) for key, value in expected.items()}


@pytest.mark.parametrize("line", BAD)
def test_a_bad_command_line_is_refused_in_words_that_name_it(line, folder):
    before = dict(DEFAULTS)
    with pytest.raises(ValueError) as error:
        configurator.override(DEFAULTS, line.split())
    assert all(word in str(error.value) for word in BAD[line]), str(error.value)
    assert DEFAULTS == before


def test_only_plain_public_lower_case_names_are_settings():
    names = dict(DEFAULTS, os=pytest, LIMIT=3, _hidden=1, __name__="train", function=len, table={}, numbers=[1])
    assert configurator.configurable(names) == DEFAULTS


def test_settings_are_applied_to_the_globals_of_a_script(folder, monkeypatch):
    monkeypatch.setattr("sys.excepthook", None)  # apply() replaces it: put it back afterwards
    names = dict(DEFAULTS, LIMIT=3, __name__="train")
    config = configurator.apply(names, ["--seed=4", "other.py"])
    assert config == DEFAULTS | {"seed": 4}
    assert names == config | {"LIMIT": 3, "__name__": "train"}


@pytest.mark.parametrize(
    "line, words",
    [
        ("--n_embed=64", ["n_embed", "n_embd"]),
        ("--max_iters=1e3", ["max_iters", "1e3", "int"]),
        ("typo.py --max_iters=1", ["typo.py", "lerning_rate", "learning_rate"]),
        ("syntax.py", ["syntax.py", "line 2"]),
    ],
)
def test_a_mistyped_experiment_ends_in_one_line_and_writes_nothing(line, words, run, refused, folder):
    before = set(folder.iterdir())
    message = refused(run("train.py", *line.split(), "--out_dir=out", cwd=folder))
    assert all(word in message for word in words), message
    assert set(folder.iterdir()) - {folder / "__pycache__"} == before


def test_the_final_settings_are_printed_and_saved(run, tmp_path):
    import json

    (tmp_path / "tiny.py").write_text(
        "max_iters = 1\nn_embd = 16\nn_layer = 1\nn_head = 2\neval_sequences = 10\nseed = 5\n"
    )
    line = (
        "--seed=9 tiny.py --weight_decay=0 --num_trajectories=10 --eval_tasks=past --out_dir=out --decay_lr=NO".split()
    )
    process = run("train.py", *line, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    expected = {"seed": 9, "n_embd": 16, "max_iters": 1, "weight_decay": 0.0, "decay_lr": False, "task": "random"}
    assert expected.items() <= config.items()
    for key, value in config.items():
        assert f"{key} = {value!r}" in process.stdout.splitlines()
