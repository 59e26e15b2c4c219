"""The program inside a `.pt` file, followed without being run: what it would call, with what, and how long that takes.

torch's restricted reader asks only which functions are called. Among those that it allows, some make a gigabyte of a
kilobyte (an encoding of an encoding), and some never end (the hash of a tuple of a tuple of a tuple, each twice). So
the stack of the program is followed first, with every value replaced by what matters of it: its kind, its size, and
how many values its hash looks at.
"""

import pickletools
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interp.errors import InputError

# A key of a dictionary is a name or a number. A few may be tuples, or integers too long for a machine word: such keys
# can be chosen to have all the same hash, and then each is compared with every other.
HEAVIEST_KEY = 64
MOST_COSTLY_KEYS = 1_000
DEEPEST_TUPLE = 100  # Python hashes them without asking how deep they are, until it crashes
# What all calls together may look at: the program's own bytes, several times.
MOST_WORK = 20_000_000
_NUMBERS = {"BININT", "BININT1", "BININT2", "BINFLOAT", "NONE", "NEWTRUE", "NEWFALSE"}
_EMPTY = {"EMPTY_LIST": "list", "EMPTY_DICT": "dictionary", "EMPTY_SET": "set", "EMPTY_TUPLE": "tuple"}
_MACHINE_WORD = 8  # bytes


@dataclass(slots=True)
class Value:
    """What matters of a value on the stack."""

    kind: str
    content: Any = None  # of a text, a name and a number itself, of tuples and lists their parts
    size: int = 1
    weight: int = 1  # how many values its hash looks at
    made_by: str = ""
    depth: int = 0  # of tuples within tuples


@dataclass
class Followed:
    """What a program does: the classes whose objects it fills like a dictionary, those that it calls with one number or
    word, as enumerations are, and the storages that it names: each entry, its type, and how many numbers it has."""

    filled: set[str] = field(default_factory=set)
    enumerations: set[str] = field(default_factory=set)
    otherwise: set[str] = field(default_factory=set)
    storages: set[tuple[str, str, int]] = field(default_factory=set)


def follow(path: Path, program: bytes, stand_ins: Collection[str], unknown: Collection[str] = ()) -> Followed:
    """Follow a program of torch.save. Raises InputError for one that calls what it should not, or takes too long;
    whatever else is raised, the program is damaged."""
    walk = _Walk(path, stand_ins, unknown)
    for opcode, argument, _ in pickletools.genops(program):
        walk.take(opcode.name, argument)
    return walk.followed


class _Walk:
    """The machine that runs pickles, without the running."""

    def __init__(self, path: Path, stand_ins: Collection[str], unknown: Collection[str]) -> None:
        self.path, self.stand_ins, self.unknown = path, stand_ins, unknown
        self.stack: list[Value] = []
        self.below: list[list[Value]] = []
        self.memory: dict[int, Value] = {}
        self.work, self.costly = 0, 0
        self.followed = Followed()

    def take(self, opcode: str, argument: Any) -> None:
        """One instruction."""
        if opcode in _NUMBERS:
            self.stack.append(Value("number", argument))
        elif opcode in _EMPTY:
            self.stack.append(Value(_EMPTY[opcode], [], 0))
        elif (act := _ACTS.get(opcode)) is not None:
            act(self, argument)
        elif opcode in ("LONG4", "LONG"):
            raise InputError(f"{self.path} holds an integer of {argument.bit_length():,} bits, which is not read")
        elif opcode not in ("PROTO", "STOP"):
            raise InputError(f"{self.path} is no file of torch.save: its pickle has the instruction {opcode}")

    def text(self, argument: str) -> None:
        self.stack.append(Value("text", argument, len(argument)))

    def put(self, place: int) -> None:
        self.memory[place] = self.stack[-1]

    def get(self, place: int) -> None:
        self.stack.append(self.memory[place])

    def mark(self, _: None) -> None:
        self.below.append(self.stack)
        self.stack = []

    def append(self, parts: list[Value]) -> None:
        if self.stack[-1].kind == "list":  # torch's reader refuses others
            self.stack[-1].content.extend(parts)
            self.stack[-1].size += len(parts)

    def fill(self, parts: list[Value]) -> None:
        for key in parts[::2]:
            self._check_key(key)
        filled = self.stack[-1]
        filled.size += len(parts)
        if filled.kind == "object":
            self.followed.filled.add(filled.made_by)

    def name(self, argument: str) -> None:
        self.stack.append(Value("name", argument.replace(" ", ".").replace("__builtin__.", "builtins.", 1)))

    def integer(self, argument: int) -> None:
        self.stack.append(Value("number" if argument.bit_length() < 8 * _MACHINE_WORD else "long integer", argument))

    def call(self, *, new: bool) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        self.stack.append(self._called(called, arguments, new=new))

    def storage(self, _: None) -> None:
        named = self.stack.pop()
        self._check_weight(named)
        parts = [part.content for part in named.content] if named.kind == "tuple" else []
        if len(parts) != 5 or parts[0] != "storage" or not isinstance(parts[4], int):
            raise InputError(f"{self.path} is damaged: its pickle names the numbers of a tensor as torch.save does not")
        self.followed.storages.add((str(parts[2]), str(parts[1]), parts[4]))
        self.stack.append(Value("storage"))

    def last(self, n: int) -> list[Value]:
        """The last n values, taken off the stack."""
        return [self.stack.pop() for _ in range(n)][::-1]

    def since_mark(self) -> list[Value]:
        parts, self.stack = self.stack, self.below.pop()
        return parts

    def tuple(self, parts: list[Value]) -> None:
        weight = min(1 + sum(part.weight for part in parts), 10**9)
        depth = 1 + max((part.depth for part in parts), default=0)
        if depth > DEEPEST_TUPLE:
            raise self._within()
        self.stack.append(Value("tuple", parts, len(parts), weight, depth=depth))

    def build(self, _: None) -> None:
        state, built = self.stack.pop(), self.stack[-1]
        if built.kind != "object" or not (
            built.made_by in self.stand_ins
            or built.made_by == "collections.OrderedDict"
            or built.made_by in self.unknown
        ):
            what = built.made_by or built.kind
            raise InputError(f"{self.path} changes a finished {what}, which torch.save never does; it is not read")
        self._spend(state)

    # ---- what is called, and what is hashed --------------------------------------------------------------------------

    def _called(self, called: Value, arguments: Value, *, new: bool) -> Value:
        if called.kind != "name" or arguments.kind != "tuple":
            raise InputError(f"{self.path} is damaged: its pickle calls a {called.kind} with a {arguments.kind}")
        name, given = called.content, arguments.content
        self._spend(arguments)
        if name in ("_codecs.encode", "builtins.bytearray"):
            return self._bytes(name, given)
        if name in self.unknown:
            single = not new and len(given) == 1 and given[0].kind in ("text", "number")
            (self.followed.enumerations if single else self.followed.otherwise).add(name)
        elif name.startswith("torch."):
            self._check_torch(name, given)
        elif name in ("builtins.set", "builtins.frozenset"):
            self._check_set(given)
        elif name not in self.stand_ins and not (
            (name == "collections.OrderedDict" and not given)
            or (name == "collections.Counter" and [one.kind for one in given] in ([], ["dictionary"]))
        ):
            raise InputError(f"{self.path} is damaged: its pickle calls {name!r} with {len(given)} values")
        return Value("object", made_by=name)

    def _bytes(self, name: str, given: list[Value]) -> Value:
        """Bytes are written as text in the second protocol of pickles. In another encoding they could be twice as
        many, and twice again."""
        kinds = [one.kind for one in given]
        if kinds == ["text", "text"] and given[1].content == ("latin1" if name == "_codecs.encode" else "latin-1"):
            return Value("bytes", None, given[0].size)
        if name == "builtins.bytearray" and kinds in ([], ["bytes"]):
            return Value("bytes", None, sum(one.size for one in given))
        raise InputError(f"{self.path} makes bytes otherwise than torch.save: it may be built to fill the memory")

    def _check_torch(self, name: str, given: list[Value]) -> None:
        if name.endswith("Storage"):
            raise InputError(f"{self.path} makes a storage of its own ({name}): it may be built to fill the memory")
        for one in given:
            self._check_weight(one)

    def _check_set(self, given: list[Value]) -> None:
        for one in given:
            if one.kind not in ("list", "tuple"):
                raise InputError(f"{self.path} is damaged: it has a set of a {one.kind}")
            for part in one.content:
                self._check_key(part)

    def _spend(self, looked_at: Value) -> None:
        self.work += looked_at.size + (
            sum(part.size for part in looked_at.content) if looked_at.kind == "tuple" and looked_at.content else 0
        )
        if self.work > MOST_WORK:
            raise InputError(f"{self.path} uses the same values again and again: it may be built to run forever")

    def _check_weight(self, value: Value) -> None:
        if value.weight > HEAVIEST_KEY:
            raise self._within()

    def _within(self) -> InputError:
        return InputError(f"{self.path} holds tuples within tuples, again and again: it may be built to run forever")

    def _check_key(self, key: Value) -> None:
        self._check_weight(key)
        pair = key.kind == "tuple" and key.size <= 2 and all(map(_is_cheap, key.content))
        self.costly += not (pair or _is_cheap(key))
        if self.costly > MOST_COSTLY_KEYS:
            raise InputError(
                f"{self.path} has more than {MOST_COSTLY_KEYS:,} keys that are no names, numbers or pairs of "
                "these: it may be built to run forever"
            )


def _is_cheap(key: Value) -> bool:
    """Whether of such keys no more than a handful can have the same hash."""
    return key.kind in ("text", "number") or key.made_by.endswith("multiarray.scalar")


_ACTS: dict[str, Callable[[_Walk, Any], None]] = {
    "BINUNICODE": _Walk.text,
    "SHORT_BINSTRING": _Walk.text,
    "BINPUT": _Walk.put,
    "LONG_BINPUT": _Walk.put,
    "BINGET": _Walk.get,
    "LONG_BINGET": _Walk.get,
    "MARK": _Walk.mark,
    "TUPLE": lambda walk, _: walk.tuple(walk.since_mark()),
    "TUPLE1": lambda walk, _: walk.tuple(walk.last(1)),
    "TUPLE2": lambda walk, _: walk.tuple(walk.last(2)),
    "TUPLE3": lambda walk, _: walk.tuple(walk.last(3)),
    "APPEND": lambda walk, _: walk.append(walk.last(1)),
    "APPENDS": lambda walk, _: walk.append(walk.since_mark()),
    "SETITEM": lambda walk, _: walk.fill(walk.last(2)),
    "SETITEMS": lambda walk, _: walk.fill(walk.since_mark()),
    "GLOBAL": _Walk.name,
    "LONG1": _Walk.integer,
    "REDUCE": lambda walk, _: walk.call(new=False),
    "NEWOBJ": lambda walk, _: walk.call(new=True),
    "BUILD": _Walk.build,
    "BINPERSID": _Walk.storage,
}
