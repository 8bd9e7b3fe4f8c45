"""The house: imports run one way, settings explain themselves, importing a module changes nothing.

These tests read the source. A new file at the top level is held to all of it but the floors.
"""

import ast
import graphlib
import re
import subprocess
import sys

import pytest
from conftest import ROOT

from model import ModelConfig

FLOORS = (  # a file imports from the floors below its own, or from its own
    {"configurator", "files", "data"},
    {"masks", "traits"},
    {"model", "doorkey", "maze2d", "bayes"},
    {"worlds"},
    {"checks", "checkpoint"},
    {"evaluate", "rollout"},
    {"train", "sample", "plot", "importing", "bench", "page", "film"},
)
LONGEST = 60  # lines of a function
TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("*.py"))}
TREES = {name: ast.parse(text) for name, text in TEXTS.items()}
REPRO = {path.stem: ast.parse(path.read_text()) for path in sorted(ROOT.glob("repro/*.py"))}
SCRIPTS = [name for name, text in TEXTS.items() if "__main__" in text or name == "train"]
every_file = pytest.mark.parametrize("name", TREES)
every_script = pytest.mark.parametrize("name", SCRIPTS)


def own_imports(tree):
    """[(module of ours, its import statement)], wherever it stands."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.module, node))
    return [(module, node) for module, node in found if module in TREES]


def settings_of(name):
    """{setting: the statement that gives its default}, before configurator.apply() is called."""
    found = {}
    for node in TREES[name].body:
        if "configurator.apply(" in ast.unparse(node):
            break
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            setting, value = node.targets[0].id, node.value
            negative = isinstance(value, ast.UnaryOp)
            if setting.islower() and (isinstance(value, ast.Constant) or negative):
                found[setting] = node
    return found


def defaults_of(name):
    """{setting: its default}."""
    return {key: ast.literal_eval(node.value) for key, node in settings_of(name).items()}


# ---- imports -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*TREES, *(f"repro/{name}" for name in REPRO)])
def test_own_modules_are_imported_at_the_top_of_a_file_only(name):
    tree = REPRO[name[6:]] if name.startswith("repro/") else TREES[name]
    code = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    begins = code[0].lineno if code else 10**9
    for module, node in own_imports(tree):
        assert node in tree.body and node.lineno < begins, f"line {node.lineno}: {module}"


def test_imports_go_round_in_no_circle():
    graph = {name: {module for module, _ in own_imports(tree)} for name, tree in TREES.items()}
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError
    assert set(order) == set(TREES)


@every_script
def test_a_command_imports_first_what_makes_ctrl_c_one_line(name):
    first = next(x for x in TREES[name].body if isinstance(x, (ast.Import, ast.ImportFrom)))
    assert ast.unparse(first) == "import configurator"


@every_file
def test_imports_come_from_the_same_floor_or_below(name):
    floor = {module: number for number, names in enumerate(FLOORS) for module in names}
    for module, node in own_imports(TREES[name]) if name in floor else ():
        assert floor.get(module, 0) <= floor[name], f"line {node.lineno}: {module} is above {name}"


def test_every_floor_has_its_files():
    assert set.union(*FLOORS) <= set(TREES)


WATCH = """
import os, random, signal, sys
import numpy, torch

def state():
    streams = sys.stdout, sys.stderr, sys.excepthook, signal.getsignal(signal.SIGINT)
    seeds = torch.get_rng_state().tolist(), str(numpy.random.get_state()), random.getstate()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYGAME")}
    numbers = torch.get_num_threads(), torch.get_default_dtype(), numpy.geterr()
    return {"streams": streams, "seeds": seeds, "environment": environment, "numbers": numbers,
            "files": os.listdir(), "folder": os.getcwd(), "path": list(sys.path)}

for name in sys.argv[1:]:
    before = state()
    __import__(name)
    after = state()
    for what in after:
        if after[what] != before[what]:
            print(name, "changes the", what)
"""


def test_importing_a_module_changes_nothing_in_the_process(tmp_path):
    """Threads, seeds, hooks and files are for commands. (train.py is itself a command.)"""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{WATCH}"
    names = [name for name in TREES if name != "train"]
    line = [sys.executable, "-c", code, *names]
    process = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert process.stdout == "" and process.stderr == ""


# ---- functions and docstrings --------------------------------------------------------------------


@every_file
def test_no_function_is_longer_than_a_screen(name):
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.FunctionDef):
            lines = node.end_lineno - node.lineno + 1
            assert lines <= LONGEST, f"{node.name} has {lines} lines"


@every_file
def test_a_file_opens_with_what_it_is_about_and_names_only_files_that_exist(name):
    text = ast.get_docstring(TREES[name])
    assert text and text.splitlines()[0].endswith((".", ":"))
    for path in re.findall(r"(?<![\w/.])(?:[a-z]+/)?[a-z][a-z0-9_]*\.py\b", text):
        assert (ROOT / path).exists(), path


# ---- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ModelConfig.__dataclass_fields__)
def test_every_field_of_the_model_is_a_setting_of_training_with_the_same_default(field):
    default = ModelConfig.__dataclass_fields__[field].default
    ours = defaults_of("train")[field]
    assert ours == default and type(ours) is type(default)


@every_script
def test_settings_stand_in_their_block_at_the_top_and_each_has_a_comment(name):
    lines, settings = TEXTS[name].splitlines(), settings_of(name)
    rules = [number for number, line in enumerate(lines, 1) if line.startswith("# ----")]
    begins = [number for number in rules if "# ---- settings --" in lines[number - 1]]
    assert len(begins) == bool(settings)
    ends = min((number for number in rules if begins and number > begins[0]), default=0)
    for setting, node in settings.items():
        assert begins[0] < node.lineno < ends, f"{setting} stands outside the block"
        own = "#" in "".join(lines[node.lineno - 1 : node.end_lineno])
        above = [line for line in lines[begins[0] : node.lineno - 1] if line.startswith("# ")]
        assert own or above, f"{setting} has no comment, and no heading above it"


@every_script
def test_help_prints_the_docstring_and_every_setting_with_its_comment(name, run_warm, tmp_path):
    process = run_warm(f"{name}.py", "--help", cwd=tmp_path)
    assert process.returncode == 0 and process.stderr == "" and not list(tmp_path.iterdir())
    text = " ".join(process.stdout.split())
    assert ast.get_docstring(TREES[name]).splitlines()[0] in text
    lines = TEXTS[name].splitlines()
    for setting, node in settings_of(name).items():
        assert f"--{setting}=" in text
        for line in lines[node.lineno - 1 : node.end_lineno]:
            comment = " ".join(line.partition("  # ")[2].split())
            assert comment in text, f"the comment of {setting} is lost"


def test_masks_draws_an_example_of_every_task(run_warm, tmp_path):
    process = run_warm("masks.py", cwd=tmp_path)
    assert process.returncode == 0
    assert {"behavior_cloning", "random", "dt_bc"} <= set(process.stdout.splitlines())
