"""From the words of a command line to a command: which options there are, their values, and complaints about them in
one line."""

import contextlib
import difflib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, get_type_hints

import tyro

from interp.cli.field_help import HELP
from interp.errors import InputError, flag, unknown_name
from interp.experiment import KINDS, SECTIONS

SHORT_OPTIONS = ("-h", "-o")


def parse(kind: type, prog: str, arguments: Sequence[str], default: Any = None) -> Any:
    """The command of type `kind` that the arguments describe, or None after its help was asked for and printed.

    Options that are not given are those of `default`. Raises InputError, in one line, for arguments that describe none.
    """
    _check_names(option_names(kind, default=default), prog, arguments)
    arguments = _joined(kind, arguments)
    with contextlib.redirect_stderr(io.StringIO()) as complaint, _as_options():
        try:
            return tyro.cli(kind, prog=prog, args=list(arguments), default=default)
        except SystemExit as stop:
            if not stop.code:
                return None
            raise InputError(_one_line(complaint.getvalue(), prog)) from None


def _joined(kind: type, arguments: Sequence[str]) -> list[str]:
    """The arguments, where a word with a minus that follows an option of words is its value: `--sort -lr` is
    `--sort=-lr`. For argparse it would be an option of one letter."""
    of_words = {f"--{flag(name)}" for name, hint in get_type_hints(kind).items() if hint in (str, str | None)}
    joined: list[str] = []
    for argument in arguments:
        is_value = re.fullmatch(r"-[A-Za-z][\w.-]*", argument) and argument not in SHORT_OPTIONS
        if joined and joined[-1] in of_words and is_value:
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


@contextlib.contextmanager
def _as_options() -> Iterator[None]:
    """Help shows the docstrings of configurations; the examples in them are for readers of the code. Fields have a line
    of their own (HELP), and those that nobody gives by hand (`metadata={"option": False}`) are no options."""
    given = [*SECTIONS.values(), *(kind for others in KINDS.values() for kind in others.values())]
    nested = [within for kind in given for within in get_type_hints(kind).values() if is_dataclass(within)]
    kinds: list[Any] = list(dict.fromkeys([*given, *nested]))
    whole = [(kind.__doc__, dict(kind.__annotations__)) for kind in kinds]
    try:
        for kind in kinds:
            kind.__doc__ = (kind.__doc__ or "").partition(">>>")[0].rstrip()
            for name, line in HELP.get(kind.__name__, {}).items():
                kind.__annotations__[name] = Annotated[kind.__annotations__[name], tyro.conf.arg(help=line)]
            for name in _no_options(kind):
                kind.__annotations__[name] = tyro.conf.Suppress[kind.__annotations__[name]]
        yield
    finally:
        for kind, (text, annotations) in zip(kinds, whole, strict=True):
            kind.__doc__ = text
            kind.__annotations__.update(annotations)


def _no_options(kind: Any) -> list[str]:
    return [each.name for each in fields(kind) if not each.metadata.get("option", True)]


def value_of(option: str, arguments: Sequence[str]) -> str | None:
    """The value of an option before the rest is parsed, the last one if it is given twice: `--preset nanda` or
    `--preset=nanda`."""
    value = None
    for index, argument in enumerate(arguments):
        if argument == option and index + 1 < len(arguments):
            value = arguments[index + 1]
        elif argument.startswith(f"{option}="):
            value = argument.split("=", 1)[1]
    return value


def option_names(kind: type, prefix: str = "--", default: Any = None) -> list[str]:
    """Every long option of a command, in the order of its help; of a configuration that can be of several kinds, those
    of the kind that `default` has."""
    names = ["--help"] if prefix == "--" else []
    for name, annotation in get_type_hints(kind, include_extras=True).items():
        if name in _no_options(kind):
            continue
        within = type(getattr(default, name)) if name in SECTIONS and default is not None else annotation
        if isinstance(within, type) and is_dataclass(within):
            names += option_names(within, f"{prefix}{flag(name)}.")
        elif any(getattr(extra, "name", None) == "" for extra in getattr(annotation, "__metadata__", ())):
            # A configuration whose options have no prefix.
            names += option_names(annotation.__origin__ if default is None else type(getattr(default, name)))[1:]
        elif tyro.conf.Positional not in getattr(annotation, "__metadata__", ()):
            names += [f"{prefix}{flag(name)}"] + [f"{prefix}no-{flag(name)}"] * (annotation is bool)
    return names


def _check_names(known: Sequence[str], prog: str, arguments: Sequence[str]) -> None:
    """Misspelt options first: what they leave out, or leave over, is only their consequence."""
    for argument in arguments:
        name = flag(argument.split("=", 1)[0])
        if name.startswith("--") and name not in known:
            near = [option for option in known if option.endswith(f".{name[2:]}")] or difflib.get_close_matches(
                name, known, n=1, cutoff=0.5
            )
            hint = f"did you mean {' or '.join(near)}?" if near else f"see {prog} --help"
            raise InputError(f"unknown option {name}; {hint}")


def _one_line(complaint: str, prog: str) -> str:
    """tyro's boxed complaint as one line."""
    rows = [row.strip("│╭╮╰╯─").rstrip(" ─") for row in complaint.splitlines()]
    if len(rows) > 1 and not rows[1].strip(
        " -"
    ):  # where letters are ASCII the box is spaces, and a rule below the title
        rows = [rows[0], *(row[1:].rstrip(" -") for row in rows[2:])]
    # Between the title and the first rule or blank row.
    rows = rows[1 : next((index for index, row in enumerate(rows) if index and not row), None)]
    message = " ".join(row.strip() for row in rows)
    if message.startswith("Missing from"):
        # Under this heading names are set in by five columns, and what they mean by nine.
        needed = [row.strip() for row in rows if re.match(r" {5}\S", row)]
        return f"{prog} needs {' and '.join(needed)}; see {prog} --help"
    if choice := re.match(r"invalid choice '(.*)' for argument '-*(.*)'\. Expected one of \((.*)\)", message):
        # Of the three configurations, errors name the field.
        option = choice[2] if "." in choice[2] else f"--{choice[2]}"
        return str(unknown_name(option, choice[1], sorted(set(re.findall(r"'(.*?)'", choice[3])) - {"None"})))
    if extra := re.match(r"Unrecognized options: ([^,]+)", message):
        return f"unexpected {extra[1]!r}; see {prog} --help"
    message = re.sub(r"^Error parsing (--)?", "", message)
    message = re.sub(r"^(task|model|training): ", "", message)
    message = re.sub(r"^([\w.]+): (?=\1\.)", "", message)  # of a nested configuration, whose errors name the field
    message = re.sub(r": no type matching (.*) could be instantiated from \[(.*)\]", r" must be \1, got \2", message)
    message = re.sub(r"^step must be \{None\}\|INT", "step must be a step number", message)
    message = message.replace(" must be {None}|INT", " must be an integer").replace(
        " must be {None}|FLOAT", " must be a number"
    )
    message = re.sub(r": invalid literal for int\(\) with base 10: ", " must be an integer, got ", message)
    message = re.sub(r": could not convert string to float: ", " must be a number, got ", message)
    message = re.sub(r"^Missing value for argument '-*(.*?)'\. Expected 1 values", r"\1 needs a value", message)
    message = re.sub(r"^Missing value for argument '-*(.*?)'\. Expected (\d+) values", r"\1 needs \2 values", message)
    return message.rstrip(".") or f"bad options; see {prog} --help"
