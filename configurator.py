"""Configuration as plain Python globals: a config file and --key=value flags override them, strictly.

    python train.py config/minigrid_bc.py --seed=3 --n_embd=64

A script defines its defaults as lower-case globals and calls `config = configurator.apply(globals())`. A config file is
Python that sets some of these names. Flags win over files whatever their order. A name that does not exist, or a value
of another type, is refused in one line: a mistyped experiment must not run. Read next: train.py.
"""

import contextlib
import difflib
import os
import sys
import warnings

PLAIN = (bool, int, float, str, type(None))


def apply(defaults, argv=None):
    """Override the configurable names in `defaults` (a script's globals) in place, and return all of them as a dict.

    argv: the command line, by default this process's. Exits with one line on stderr and code 1 on a user's mistake.
    """
    one_line_errors()
    config = configurable(defaults)
    config = override(config, sys.argv[1:] if argv is None else argv)
    defaults.update(config)
    return config


def configurable(names):
    """The names that are settings: public, lower-case, and of a plain type."""
    return {k: v for k, v in names.items() if k.islower() and not k.startswith("_") and isinstance(v, PLAIN)}


def override(config, argv):
    """A copy of config with the files and flags of argv applied. Raises ValueError for what it cannot take."""
    config, defaults = dict(config), dict(config)
    for path in (arg for arg in argv if not arg.startswith("-")):
        for key, value in read_file(path).items():
            known(key, defaults, path)
            config[key] = typed(key, value, defaults[key], path)
    for flag in (arg for arg in argv if arg.startswith("-")):
        if not flag.startswith("--") or flag == "--":
            raise ValueError(f"{flag!r} is neither a config file nor of the form --key=value")
        key, equals, text = flag[2:].partition("=")
        known(key, defaults, "the command line")
        if not equals and not isinstance(defaults[key], bool):
            raise ValueError(f"--{key} needs a value: --{key}={defaults[key]}")
        config[key] = parsed(key, text if equals else "True", defaults[key])
    return config


def read_file(path):
    """{name: value} of the names that a config file sets."""
    if not os.path.isfile(path):
        raise ValueError(f"there is no config file {path!r} (settings are written --key=value)")
    names = {}
    try:
        with open(path, encoding="utf-8") as file, warnings.catch_warnings(action="ignore"):
            exec(compile(file.read(), path, "exec"), names)
    except (Exception, SystemExit) as error:  # whatever a user's file may do wrong ends in one line
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise ValueError(f"config file {path}{where}: {type(error).__name__}: {' '.join(str(error).split())}") from None
    return {k: v for k, v in names.items() if not k.startswith("__")}


def known(key, defaults, where):
    """Raise ValueError, naming the nearest setting, if the key is none."""
    if key not in defaults:
        near = difflib.get_close_matches(key, defaults, n=1, cutoff=0.5)
        raise ValueError(f"{where}: there is no setting {key!r}" + (f"; did you mean {near[0]!r}?" if near else ""))


def typed(key, value, default, where):
    """A config file's value, if it has its setting's type (an int may stand for a float)."""
    if default is None and isinstance(value, PLAIN):
        return value
    if isinstance(default, float) and type(value) is int and abs(value) < 2**1000:  # what is larger is no float
        return float(value)
    if type(value) is not type(default):
        raise ValueError(f"{where}: {key}={value!r} should be of type {type(default).__name__}, like {default!r}")
    return value


def parsed(key, text, default):
    """A flag's text as a value of its setting's type."""
    if text.lower() == "none" and default is None:
        return None
    if isinstance(default, bool):
        if text.lower() not in BOOLEANS:
            raise ValueError(f"--{key}={text!r} should be True or False")
        return BOOLEANS[text.lower()]
    for kind in (int, float) if default is None else (type(default),):
        try:
            return kind(text)
        except ValueError:
            continue
    if default is None:
        return text
    raise ValueError(f"--{key}={text!r} should be of type {type(default).__name__}, like {default!r}")


BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def one_line_errors():
    """A user's mistake (ValueError, OSError) ends this script in one line on stderr and exit code 1, not in a traceback."""

    def hook(kind, error, trace):
        if issubclass(kind, (ValueError, OSError)) and not os.environ.get("TRACEBACK"):
            print(f"{os.path.basename(sys.argv[0])}: {' '.join(str(error).split())}", file=sys.stderr)
        else:
            sys.__excepthook__(kind, error, trace)

    sys.excepthook = hook


@contextlib.contextmanager
def beside(path):
    """A name beside `path` to write to. It becomes `path` when it is whole and on the disk; if that fails, it goes."""
    unfinished = f"{path}.tmp"
    try:
        yield unfinished
        with open(unfinished, "rb") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.remove(unfinished)
        if isinstance(error, OSError):  # a full disk, say, of which the message alone does not name the file
            raise OSError(f"cannot write {path}: {error.strerror or error}") from None
        raise
