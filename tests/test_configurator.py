"""Settings: what files and flags may say and may not, and that a mistake ends in one line."""

import configurator

import json
import math
import sys

import pytest

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
    "good.py": '"""A page."""\n\nseed = 5\nlearning_rate = 1\ntask = "past"\ncompile = True\n',
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
    "colon.py": "learning_rate: 0.5\n",
    "colon_typo.py": "lerning_rate: 3\n",
    "typed.py": "seed: int = 5\n",
    "compared.py": "seed = 5\nseed == 6\n",
    "text.py": '"A page."\n"seed = 3"\n',
    "call.py": "print(5)\n",
    "dunder.py": "__seed = 5\n",
    "branch.py": "if True:\n    seed: 3\n",
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
    "good.py --compile=0": {"seed": 5, "learning_rate": 1.0, "task": "past"},
    "good.py other.py": {"seed": 6, "learning_rate": 1.0, "task": "past", "compile": True},
    "other.py good.py": {"seed": 5, "learning_rate": 1.0, "task": "past", "compile": True},
    "computed.py": {"seed": 7, "learning_rate": 3e-4 / 3},
    "none.py": {},
    "number.py": {"target_return": 2.5},
    "empty.py": {},
    "typed.py": {"seed": 5},
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
    "colon.py": ["colon.py", "line 1", "learning_rate: 0.5", "name = value"],
    "colon_typo.py": ["lerning_rate: 3"],
    "compared.py": ["line 2", "seed == 6"],
    "text.py": ["line 2", "sets nothing"],
    "call.py": ["print(5)"],
    "dunder.py": ["__seed"],
    "branch.py": ["line 1"],
    "--task past": ["--task=past"],
    "--compile True": ["True"],
    "good.py --seed=2 other.py --sede=1": ["sede", "seed"],
}


@pytest.mark.parametrize("line", GOOD)
def test_a_good_command_line_changes_what_it_names_and_nothing_else(line, folder):
    result = configurator.override(DEFAULTS, line.split())
    expected = DEFAULTS | GOOD[line]
    assert result == expected
    types = lambda settings: {key: type(value) for key, value in settings.items()}
    assert types(result) == types(expected)


@pytest.mark.parametrize("line", BAD)
def test_a_bad_command_line_is_refused_in_words_that_name_it(line, folder):
    before = dict(DEFAULTS)
    with pytest.raises(ValueError) as error:
        configurator.override(DEFAULTS, line.split())
    assert all(word in str(error.value) for word in BAD[line]), str(error.value)
    assert DEFAULTS == before


def test_only_plain_public_lower_case_names_are_settings():
    others = dict(os=pytest, LIMIT=3, _hidden=1, __name__="train", function=len, table={}, some=[1])
    assert configurator.configurable(DEFAULTS | others) == DEFAULTS


def test_settings_are_applied_to_the_globals_of_a_script(folder, monkeypatch):
    monkeypatch.setattr("sys.excepthook", None)  # apply() replaces it: put it back afterwards
    names = dict(DEFAULTS, LIMIT=3, __name__="train")
    config = configurator.apply(names, ["--seed=4", "other.py"])
    assert config == DEFAULTS | {"seed": 4}
    assert names == config | {"LIMIT": 3, "__name__": "train"}


def test_what_was_given_is_known_by_name(folder):
    assert configurator.given(["--seed=4", "good.py", "--compile"]) == {
        "seed", "learning_rate", "task", "compile",
    }  # fmt: skip
    assert configurator.given([]) == set()


# ---- ranges --------------------------------------------------------------------------------------

RANGES = {"kind": ("a", "b"), "share": (0, 1), "many": (1, math.inf)}


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"kind": "c"}, "kind='c' is not one of a, b"),
        ({"share": 1.0}, "share=1.0 must be a number of at least 0 and below 1"),
        ({"share": -0.1}, "share=-0.1 must be"),
        ({"share": math.nan}, "share=nan must be"),
        ({"many": 0}, "many=0 must be a number of at least 1"),
        ({"many": math.inf}, "many=inf must be"),
    ],
)
def test_what_is_out_of_its_range_is_refused_with_the_range(wrong, words):
    good = {"kind": "b", "share": 0, "many": 10**9, "other": None}
    configurator.check(good, RANGES)
    with pytest.raises(ValueError, match=words):
        configurator.check(good | wrong, RANGES)


# ---- help ----------------------------------------------------------------------------------------

SCRIPT = '''"""A script.

    python script.py
"""

# ---- settings
# reading
path = "some.npz"  # what to read
limit = None
# Where it goes to, which takes
# two lines to say.
out = ""
LIMIT = 3  # no setting
# ----
seed = 3


def f():
    inner = 3  # no setting
    return inner
'''


def test_help_prints_the_docstring_and_every_setting_with_its_comment(tmp_path, capsys):
    file = tmp_path / "script.py"
    file.write_text(SCRIPT)
    names = {"__file__": str(file), "__doc__": "A script.\n", "LIMIT": 3, "seed": 5}
    names |= {"path": "some.npz", "limit": None, "out": ""}
    for flag in ("--help", "-h"):
        with pytest.raises(SystemExit) as stop:
            configurator.apply(dict(names), ["--seed=5", flag])
        assert not stop.value.code
        lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip()]
        assert [line.split(maxsplit=1) for line in lines] == [
            ["A", "script."],
            ["reading"],
            ["--path=some.npz", "what to read"],
            ["--limit=None"],
            ["Where", "it goes to, which takes two lines to say."],
            ["--out="],
            ["--seed=5"],
        ]


# ---- the real command ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line, words",
    [
        ("--n_embed=64", ["n_embed", "n_embd"]),
        ("--max_iters=1e3", ["max_iters", "1e3", "int"]),
        ("typo.py --max_iters=1", ["typo.py", "lerning_rate", "learning_rate"]),
        ("syntax.py", ["syntax.py", "line 2"]),
    ],
)
def test_a_mistyped_experiment_ends_in_one_line_and_writes_nothing(
    line, words, run_warm, refused, folder
):
    before = set(folder.iterdir())
    message = refused(run_warm("train.py", *line.split(), "--out_dir=out", cwd=folder))
    assert message.startswith("train.py: ") and all(word in message for word in words), message
    assert set(folder.iterdir()) - {folder / "__pycache__"} == before


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch, capsys):
    monkeypatch.setattr("sys.excepthook", None)
    monkeypatch.setattr("sys.argv", ["train.py"])
    configurator.one_line_errors()
    try:
        raise ZeroDivisionError("ours")
    except ZeroDivisionError:
        sys.excepthook(*sys.exc_info())
    assert "Traceback" in capsys.readouterr().err
    try:
        raise ValueError("two\nlines")
    except ValueError:
        sys.excepthook(*sys.exc_info())
    assert capsys.readouterr().err == "train.py: two lines\n"


def test_the_final_settings_are_printed_and_saved(run_warm, tmp_path):
    lines = "max_iters = 1", "n_embd = 16", "n_layer = 1", "n_head = 2", "eval_sequences = 10"
    (tmp_path / "tiny.py").write_text("\n".join([*lines, "seed = 5"]))
    flags = "--seed=9 tiny.py --weight_decay=0 --num_trajectories=10 --eval_tasks=past".split()
    process = run_warm("train.py", *flags, "--decay_lr=NO", "--out_dir=out", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    expected = {"seed": 9, "n_embd": 16, "max_iters": 1, "weight_decay": 0.0, "decay_lr": False}
    assert (expected | {"task": "random"}).items() <= config.items()
    for key, value in config.items():
        assert f"{key} = {value!r}" in process.stdout.splitlines()
