"""Public docstrings describe parameters and results; all texts of the package use usual words."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

import skuq

PUBLIC = (
    "", ".active_learning", ".augmentation", ".calibration", ".datasets", ".distributed",
    ".estimators", ".exceptions", ".likelihoods", ".metrics", ".modules", ".novelty",
    ".persistence", ".pipeline", ".posteriors", ".selective", ".shift", ".uncertainty",
)  # fmt: skip

INPUT, OUTPUT = {"Parameters", "Other Parameters", "Attributes"}, {"Returns", "Yields"}


def entries_of(doc):
    """Triples (section, names, description) of the numpydoc sections of a docstring."""
    entries, section = [], ""
    lines = inspect.cleandoc(doc).splitlines()
    for line, below in zip(lines, [*lines[1:], ""]):
        if re.fullmatch("-{3,}", below):
            section = line
        elif line.startswith(" ") and entries:
            entries[-1][2].append(line.strip())
        elif line and not line.startswith("---"):
            names = [name.strip().lstrip("*") for name in line.partition(" : ")[0].split(",")]
            entries.append((section, names, []))
    return [(section, names, " ".join(words)) for section, names, words in entries]


def unsaid(title, doc, parameters):
    """What a docstring leaves out."""
    if not doc:
        yield f"{title}: no docstring"
        return
    entries = entries_of(doc)
    for section, names, description in entries:
        if section in INPUT | OUTPUT and len(description.split()) < 2:
            yield f"{title}: {section}: {', '.join(names)} has no sentence"
    described = {name for section, names, _ in entries if section in INPUT for name in names}
    yield from (f"{title}: {parameter} is not described" for parameter in parameters - described)


def parameters_of(function, variadic=True):
    parameters = inspect.signature(function).parameters.values()
    some = (p for p in parameters if variadic or p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
    return {p.name for p in some} - {"self", "cls"}


def function_of(member):
    """The function of a method or a property; None of anything else."""
    member = getattr(member, "fn", member)  # scikit-learn's available_if
    member = getattr(member, "__func__", member)  # class and static methods
    member = getattr(member, "fget", member)
    return member if inspect.isfunction(member) else None


def unsaid_of_methods(base, cls):
    """What the public methods leave out that `base` gives to the class `cls`."""
    above_base = cls.__mro__[cls.__mro__.index(base) + 1 :]
    for name, member in vars(base).items():
        function = function_of(member)
        if name.startswith("_") or function is None:
            continue
        title = f"{base.__name__}.{name}"
        above = [function_of(vars(b)[name]) for b in above_base if name in vars(b)]
        above = [f for f in above if f is not None and f.__doc__]
        if function.__doc__ or not above:
            yield from unsaid(title, function.__doc__, parameters_of(function))
        else:  # as the class above says, but for parameters of its own
            own = parameters_of(function, variadic=False) - parameters_of(above[0])
            yield from (f"{title}: {parameter} is not described" for parameter in own)


def all_gaps():
    """For each file with something public, what its docstrings leave out."""
    found = {}
    for room in PUBLIC:
        module = importlib.import_module(f"skuq{room}")
        for name, thing in ((name, getattr(module, name)) for name in module.__all__):
            if inspect.isfunction(thing):
                own = unsaid(name, thing.__doc__, parameters_of(thing))
            elif inspect.isclass(thing):
                made_here = any("__init__" in vars(b) for b in thing.__mro__ if is_ours(b))
                made_here = made_here or hasattr(thing, "_fields")  # a named tuple
                own = unsaid(name, thing.__doc__, parameters_of(thing) if made_here else set())
                for base in filter(is_ours, thing.__mro__):
                    found.setdefault(base.__module__, set()).update(unsaid_of_methods(base, thing))
            else:
                continue
            found.setdefault(thing.__module__, set()).update(own)
    return {file: sorted(missing) for file, missing in found.items()}


def is_ours(thing):
    return thing.__module__.startswith("skuq.")


# Words that hide who does what. Say "only" for "alone", and name the thing for "whatever".
UNUSUAL = re.compile(
    r"\b(?i:alone|told|somebody|nobody|whoever|whatever|kin)\b|^\s*Of (?:an?|the) ", re.M
)
VERBLESS = re.compile(r"(The|An?|How|Which|What|Whether|Where|Why|Of|Those|That) ")
PACKAGE = Path(skuq.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))


def title_of(file):
    return file.relative_to(PACKAGE).as_posix()


def functions_of(tree):
    """The functions and methods of a file, properties left out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            if not any("property" in ast.unparse(each) for each in node.decorator_list):
                yield node


def wordings(file):
    """Texts with unusual words, and functions, also private ones, that no verb explains."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):  # docstrings, messages
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            for word in UNUSUAL.finditer(node.value):
                yield f"line {node.lineno}: {word[0].strip()!r}"
    for function in functions_of(tree):
        first = (ast.get_docstring(function) or "").partition("\n")[0]
        if VERBLESS.match(first):
            yield f"{function.name}: begin with a verb, not {first!r}"


GAPS = all_gaps()


@pytest.mark.parametrize("file", sorted(GAPS))
def test_docstrings_are_complete(file):
    assert not GAPS[file], "\n".join(GAPS[file])


@pytest.mark.parametrize("file", FILES, ids=title_of)
def test_texts_are_plain(file):
    found = list(wordings(file))
    assert not found, "\n".join(found)


def documented_defaults(doc):
    """Yield the names and texts of all parameters with "default=…" in their line."""
    for line in inspect.cleandoc(doc).splitlines():
        names, colon, kind = line.partition(" : ")
        if colon and (found := re.search(r"default=(.+)$", kind)):
            yield from ((name.strip(), found[1]) for name in names.split(","))


def is_error(thing):
    return inspect.isclass(thing) and issubclass(thing, BaseException)


def wrong_defaults():
    """Functions, methods and classes whose docstring names another default than they have."""
    for room in PUBLIC:
        module = importlib.import_module(f"skuq{room}")
        for name, thing in ((name, getattr(module, name)) for name in module.__all__):
            if not (inspect.isfunction(thing) or inspect.isclass(thing)):
                continue
            functions = {} if is_error(thing) else {name: thing}
            for base in filter(is_ours, thing.__mro__ if inspect.isclass(thing) else ()):
                found = {key: function_of(member) for key, member in vars(base).items()}
                functions |= {f"{base.__name__}.{key}": f for key, f in found.items() if f}
            for title, function in functions.items():
                if not function.__doc__:
                    continue
                actual = inspect.signature(function).parameters
                for parameter, said in documented_defaults(function.__doc__):
                    if parameter not in actual:
                        continue  # of a method, said in the docstring of its class
                    default = actual[parameter].default
                    try:
                        same = type(ast.literal_eval(said)) is type(default)
                        same = same and ast.literal_eval(said) == default
                    except (SyntaxError, ValueError):
                        name = getattr(default, "__name__", getattr(default, "name", None))
                        same = said.rpartition(".")[2] == name
                    if not same:
                        yield f"{title}: {parameter} is {default!r}, its docstring says {said}"


def test_defaults_are_those_of_the_docstrings():
    wrong = sorted(set(wrong_defaults()))
    assert not wrong, "\n".join(wrong)
