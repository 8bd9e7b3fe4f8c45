"""Settings as plain Python globals: a config file and --key=value flags override them, strictly.

    python train.py config/minigrid_bc.py --seed=3 --n_embd=64
    python train.py --help                            # every setting, its default and its comment

A script defines its settings as lower-case globals at the top, each with a comment, and calls
`configurator.apply(globals())`. A config file is Python that sets some of these names. Flags win
over files whatever their order. A name that does not exist, or a value of another type, is refused
in one line: a mistyped experiment must not run. Read next: masks.py.
"""

import ast
import contextlib
import ctypes
import difflib
import errno
import io
import os
import signal
import sys
import warnings

PLAIN = (bool, int, float, str, type(None))
BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
PYTHONS_OWN = ("__builtins__", "__doc__", "__annotations__")  # names in every config file


def apply(names, argv=None):
    """Override the settings in `names` (a script's globals) in place; return all of them as a dict.

    argv: by default this process's. --help prints the settings and exits.
    """
    one_line_errors()
    if signal.getsignal(signal.SIGINT) in (leave, signal.default_int_handler):
        signal.signal(signal.SIGINT, interrupt)
    argv = sys.argv[1:] if argv is None else argv
    if {"-h", "--help"} & set(argv):
        print(describe(names))
        sys.exit()
    config = override(configurable(names), argv)
    names.update(config)
    return config


def configurable(names):
    """The names that are settings: public, lower-case, and of a plain type."""
    public = {name: value for name, value in names.items() if name.islower() and name[0] != "_"}
    return {name: value for name, value in public.items() if isinstance(value, PLAIN)}


def override(config, argv):
    """A copy of config with the files and flags of argv applied. Raises ValueError on a mistake."""
    changed = {}
    for flag, value in zip(argv, argv[1:]):
        takes_one = flag[2:] in config and not isinstance(config[flag[2:]], bool)
        if flag.startswith("--") and takes_one and not value.startswith("--"):
            raise ValueError(f"a setting and its value are one word: {flag}={value}")
    for path in (word for word in argv if not word.startswith("-")):
        for key, value in read_file(path).items():
            changed[key] = typed(key, value, default_of(key, config, path), path)
    for flag in (word for word in argv if word.startswith("-")):
        if not flag.startswith("--") or flag == "--":
            raise ValueError(f"{flag!r} is neither a config file nor of the form --key=value")
        key, equals, text = flag[2:].partition("=")
        default = default_of(key, config, "the command line")
        if not equals and not isinstance(default, bool):
            raise ValueError(f"--{key} needs a value: --{key}={default}")
        changed[key] = parsed(key, text if equals else "True", default)
    return config | changed


def given(argv):
    """The names of the settings that the files and flags of argv set."""
    names = {word[2:].partition("=")[0] for word in argv if word.startswith("--")}
    return names.union(*(read_file(word) for word in argv if not word.startswith("-")))


def read_file(path):
    """{name: value} of the names that a config file sets."""
    if not os.path.isfile(path):
        raise ValueError(f"there is no config file {path!r} (settings are written --key=value)")
    names = {}
    try:
        with open(path, encoding="utf-8") as file, warnings.catch_warnings(action="ignore"):
            tree = ast.parse(file.read(), path)
            exec(compile(tree, path, "exec"), names)
    except (Exception, SystemExit) as error:  # whatever a user's file does wrong ends in one line
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(f"config file {path}{where}: {reason}") from None
    for node in tree.body[ast.get_docstring(tree) is not None :]:
        if not sets_something(node):
            text = " ".join(ast.unparse(node).split())[:60]
            reason = f"{text!r} sets nothing; settings are written name = value"
            raise ValueError(f"config file {path}, line {node.lineno}: {reason}")
    return {name: x for name, x in names.items() if name not in PYTHONS_OWN}


def sets_something(node):
    """Whether a statement gives a value to a name: `seed: 3`, `seed == 3` and f(seed) do not."""
    inside = list(ast.walk(node))
    if any(isinstance(part, ast.AnnAssign) and part.value is None for part in inside):
        return False
    stored = any(isinstance(getattr(part, "ctx", None), ast.Store) for part in inside)
    named = (ast.alias, ast.FunctionDef, ast.ClassDef)  # refused later, by their names
    return stored or any(isinstance(part, named) for part in inside)


def default_of(key, config, where):
    """A setting's default. Raises ValueError, naming what may be meant, if there is none."""
    if key in config:
        return config[key]
    near = difflib.get_close_matches(key, config, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{where}: there is no setting {key!r}{hint}")


def typed(key, value, default, where):
    """A config file's value, if it has its setting's type (an int may stand for a float)."""
    if default is None and isinstance(value, PLAIN):
        return value
    if isinstance(default, float) and type(value) is int and abs(value) < 2**1000:
        return float(value)
    if type(value) is not type(default):
        kind = type(default).__name__
        raise ValueError(f"{where}: {key}={value!r} should be of type {kind}, like {default!r}")
    return value


def parsed(key, text, default):
    """A flag's text as a value of its setting's type."""
    if default is None and text.lower() == "none":
        return None
    if isinstance(default, bool):
        if text.lower() in BOOLEANS:
            return BOOLEANS[text.lower()]
        raise ValueError(f"--{key}={text!r} should be True or False")
    for kind in (int, float, str) if default is None else (type(default),):
        with contextlib.suppress(ValueError):
            return kind(text)
    raise ValueError(f"--{key}={text!r} should be of type {kind.__name__}, like {default!r}")


def processes():
    """Which one of how many this process is, as torchrun says: (0, 1) without it."""
    numbers = {"RANK": 0, "WORLD_SIZE": 1}
    for name in numbers:
        text = os.environ.get(name, str(numbers[name]))
        if not text.isdecimal():
            raise ValueError(f"the environment has {name}={text!r}, not a whole number")
        numbers[name] = int(text)
    check(numbers, {"WORLD_SIZE": (1, float("inf")), "RANK": (0, numbers["WORLD_SIZE"])})
    return numbers["RANK"], numbers["WORLD_SIZE"]


def check(settings, allowed):
    """Raise ValueError for the first setting that is out of its range.

    allowed: {name: the texts to choose from, or numbers (low, high): low <= value < high}.
    """
    for name, values in allowed.items():
        value, low, high = settings[name], values[0], values[-1]
        if isinstance(low, str):
            if value not in values:
                raise ValueError(f"{name}={value!r} is not one of {', '.join(values)}")
        elif not low <= value < high:
            upper = "" if high == float("inf") else f" and below {high}"
            raise ValueError(f"{name}={value!r} must be a number of at least {low}{upper}")


def check_memory(needed, what):
    """Raise ValueError if something needs more bytes of memory than this machine has."""
    if hasattr(os, "sysconf"):  # Windows does not say how many there are
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
        if needed / 2**30 > there:
            text = f"{what} needs {needed / 2**30:,.0f} GiB of memory"
            raise ValueError(f"{text}, and this machine has {there:,.0f}")


def keep_memory():
    """Freed memory stays with this process: glibc would give it back, to be faulted in again."""
    with contextlib.suppress(OSError, TypeError, AttributeError):  # where there is no glibc
        for option, size in ((-1, 2**30), (-3, 2**25)):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            ctypes.CDLL(None).mallopt(option, size)


def describe(names):
    """What --help prints: the script's docstring, and each setting with its comment."""
    settings, parts, heading = configurable(names), [names["__doc__"]], ""
    with open(names["__file__"], encoding="utf-8") as file:
        lines = file.read().splitlines()
    for line in lines:
        name, _, rest = line.partition(" = ")
        if name in settings:
            # a comment above several settings is a heading: it belongs to them all
            parts += ["\n" + heading.strip()] if heading else []
            flag, comment = f"--{name}={settings[name]}", rest.partition("  # ")[2]
            parts.append(f"  {flag:32s} {comment}".rstrip())
        above = line.startswith("# ") and not line.startswith("# --")
        heading = heading + line[1:] if above else ""
    return "\n".join(parts)


def stops(heed=True):
    """A list into which Ctrl-C, SIGTERM and SIGHUP put their number from now on, if it is heeded."""
    stop = []
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows lacks one; nohup has another ignored
        if number and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, _: stop.append(number) if heed else None)
    return stop


def one_line_errors():
    """A user's mistake ends this script in one line and exit code 1, Ctrl-C in one and 130."""
    script = os.path.basename(SCRIPT if OURS else sys.argv[0])  # bench.py gives train.py an argv

    def hook(kind, error, trace):
        text = " ".join(str(error).split())
        if issubclass(kind, KeyboardInterrupt) or interrupted:
            print(f"{script}: stopped by Ctrl-C", file=sys.stderr)
            sys.exit(130)
        if issubclass(kind, MemoryError) or (kind is RuntimeError and "allocate memory" in text):
            print(f"{script}: not enough memory: {text[-200:]}", file=sys.stderr)
        elif issubclass(kind, (ValueError, OSError, ModuleNotFoundError)):
            text += f": pip install {error.name}" if issubclass(kind, ImportError) else ""
            print(f"{script}: {text}", file=sys.stderr)
        else:
            sys.__excepthook__(kind, error, trace)

    sys.excepthook = hook
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:
        pass  # a stream that was closed: the next file would take its number, and what is printed
    os.close(number)
    sys.stdout, sys.stderr = (x or open(os.devnull, "w") for x in (sys.stdout, sys.stderr))
    if sys.stdout is sys.__stdout__:  # not that of a test
        raw, kind = Outlet(sys.stdout.fileno(), "w", closefd=False), sys.stdout
        like = {"encoding": kind.encoding, "errors": "backslashreplace"}
        like |= {"line_buffering": kind.line_buffering, "write_through": kind.write_through}
        sys.stdout = io.TextIOWrapper(raw if kind.write_through else io.BufferedWriter(raw), **like)


class Outlet(io.FileIO):
    """Standard output that outlives who reads it: `| head -1`, a terminal closed, a full disk."""

    told = False

    def write(self, content):
        try:
            return super().write(content)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO) and not self.told:
                self.told = True
                print(f"what is printed is lost: {error.strerror}", file=sys.stderr)
            return len(content)


def leave(*_):
    """Ctrl-C before apply(): nothing has been done that needs an end."""
    print(f"{os.path.basename(SCRIPT)}: stopped by Ctrl-C", file=sys.stderr, flush=True)
    os._exit(130)


interrupted = []  # whether Ctrl-C was pressed: libraries make other errors of a KeyboardInterrupt


def interrupt(*_):
    """Ctrl-C after apply()."""
    interrupted.append(True)
    raise KeyboardInterrupt


# A script of this folder, or of repro/, imports this file first, and then what takes seconds.
SCRIPT, HERE = os.path.abspath(sys.argv[0]), os.path.dirname(os.path.abspath(__file__))
OURS = os.path.dirname(SCRIPT) in (HERE, os.path.join(HERE, "repro"))
OURS = OURS and os.path.isfile(SCRIPT)
if OURS and signal.getsignal(signal.SIGINT) == signal.default_int_handler:
    signal.signal(signal.SIGINT, leave)
