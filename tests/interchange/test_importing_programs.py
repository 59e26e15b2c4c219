"""Programs in `.pt` files that are built to exhaust time or memory, or to leave objects half made: each is refused, or
read for what it is, before it can. They are written by hand, as pickle would never write them."""

import dataclasses
import datetime
import enum
import struct
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from interp.errors import InputError
from interp.interchange.importing.pickles import load_pickled

SOON = 20  # seconds of the processor; each takes a second at most, and hours or gigabytes before it was refused


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


def word(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def name(module: str, last: str) -> bytes:
    return f"c{module}\n{last}\n".encode()


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + b"(" + b"".join(arguments) + b"tR"


def put(place: int) -> bytes:
    return b"r" + struct.pack("<I", place)


def get(place: int) -> bytes:
    return b"j" + struct.pack("<I", place)


def long_integer(value: int) -> bytes:
    content = value.to_bytes((value.bit_length() + 8) // 8, "little")
    return b"\x8a" + bytes([len(content)]) + content


def load(program: bytes) -> Any:
    with zipfile.ZipFile("hostile.pt", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + program + b".")
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3\n")
    return load_pickled(Path("hostile.pt"))


ENCODE = name("_codecs", "encode")
PAIR = b"K\x01K\x02\x86"
ONE = b"K\x01"
MODULUS = 2**61 - 1  # of the hashes of integers
KIND = call(name("numpy", "dtype"), word("f4"), b"\x89", b"\x88")


def encoded_again(times: int) -> bytes:
    program = call(ENCODE, word("a" * 1000), word("latin1"))
    for _ in range(times):
        program = call(ENCODE, program, word("hex"))
    return b"}" + word("a") + program + b"s"


def tuples_within(depth: int, *, stored_twice: bool) -> bytes:
    program = PAIR
    for level in range(depth):
        twice = put(2 * level + 1) if stored_twice else b""
        program += put(2 * level) + twice + get(2 * level + stored_twice) + b"\x86"
    return b"}" + program + ONE + b"s"


def one_hash() -> bytes:
    keys = b"".join(long_integer(MODULUS * (place + 1)) + b"N" for place in range(100_000))
    return b"}(" + keys + b"u"


def array_of_axes() -> bytes:
    axes = b"](" + b"\x8a\xff" + b"\x7f" * 255 + put(1) + get(1) * 400_000 + b"e"
    array = call(name("numpy.core.multiarray", "_reconstruct"), name("numpy", "ndarray"), b"(K\x00t", word("b"))
    return array + b"(" + ONE + axes + KIND + b"\x89" + call(ENCODE, word(""), word("latin1")) + b"tb"


PROGRAMS = {
    "an encoding of an encoding": (lambda: encoded_again(22), "makes bytes otherwise than torch.save"),
    "a slow encoding": (
        lambda: call(ENCODE, word("".join(map(chr, range(0x4E00, 0x9E00))) * 20), word("punycode")),
        "makes bytes otherwise than torch.save",
    ),
    "shared tuples": (lambda: tuples_within(40, stored_twice=False), "tuples within tuples"),
    "shared tuples, stored twice": (lambda: tuples_within(60, stored_twice=True), "tuples within tuples"),
    "shared tuples as the key of a storage": (
        lambda: tuples_within(60, stored_twice=True)[1:-3] + b"Q",
        "tuples within tuples",
    ),
    "a deep tuple": (lambda: b"})" + b"\x85" * 300_000 + ONE + b"s", "tuples within tuples"),
    "a set of shared tuples": (
        lambda: call(name("__builtin__", "set"), b"](" + tuples_within(60, stored_twice=True)[1:-3] + b"e"),
        "tuples within tuples",
    ),
    "integers of one hash": (one_hash, "more than 1,000 keys"),
    "an array of long axes": (array_of_axes, "an array of numpy's is damaged"),
    "bytes by their number": (
        lambda: call(name("__builtin__", "bytearray"), long_integer(10**11)),
        "makes bytes otherwise than torch.save",
    ),
    "a storage by its size": (
        lambda: call(name("torch.storage", "UntypedStorage"), long_integer(10**11)),
        "makes a storage of its own",
    ),
    "a path of long parts": (
        lambda: call(name("pathlib", "PosixPath"), word("a" * 100_000) + put(1) + get(1) * 100_000),
        "uses the same values again and again",
    ),
    "a path longer than any": (
        lambda: call(name("pathlib", "PosixPath"), word("a" * 1000) + put(1) + get(1) * 100),
        "a path is longer than 4,096 characters",
    ),
    "a list copied again and again": (
        lambda: b"(" + b"](" + ONE * 50_000 + b"e" + put(1) + call(name("torch", "Size"), get(1)) * 1000 + b"t",
        "uses the same values again and again",
    ),
    "an integer of many bytes": (
        lambda: b"\x8b" + struct.pack("<i", 300) + b"\x01" * 300,
        "holds an integer of 2,393 bits, which is not read",
    ),
    "a call of no function": (lambda: call(ONE), "its pickle calls a number"),
    "a finished tuple changed": (lambda: b")}b", "changes a finished tuple"),
}


@pytest.mark.parametrize("kind", PROGRAMS)
def test_programs_that_never_end_are_refused_at_once(kind: str):
    make, expected = PROGRAMS[kind]
    program = make()
    began = time.process_time()  # whatever else the machine is doing
    with pytest.raises(InputError, match=expected) as caught:
        load(program)
    assert time.process_time() - began < SOON
    assert "\n" not in str(caught.value)


ORDERED = name("collections", "OrderedDict") + b")R"


@pytest.mark.parametrize("attribute", ["values", "items", "keys", "get", "__class__"])
@pytest.mark.parametrize("value", [ONE, name("__builtin__", "list")], ids=["a number", "a class"])
def test_attributes_of_a_dictionary_do_not_stand_before_its_methods(attribute: str, value: bytes):
    found = load(ORDERED + b"}" + word(attribute) + value + b"s" + b"b")
    assert dict(found.items()) == {}
    assert list(found.values()) == []


def test_an_array_that_was_never_filled_is_none():
    assert load(b"}" + word("a") + name("numpy", "ndarray") + b")\x81s") == {"a": None}
    with pytest.raises(InputError, match="numpy's values of type '' are not read"):
        load(call(name("numpy.core.multiarray", "scalar"), name("numpy", "dtype") + b")\x81"))


def test_a_large_file_that_begins_like_a_pickle_is_not_read_whole():
    with open("large.pt", "wb") as file:
        file.write(b"\x80\x02")
        file.truncate(10**12)  # of holes: it takes no room on the disk, and more memory than there is
    with pytest.raises(InputError, match=r"large.pt is damaged: "):
        load_pickled(Path("large.pt"))


class Mode(enum.Enum):
    FAST = 1
    SLOW = "slow"


class DictConfig(dict):
    """Settings that are a dictionary, and an object."""

    note: str


@dataclasses.dataclass
class RunConfig:
    p: int = 5
    mode: Mode = Mode.SLOW
    started: datetime.datetime = datetime.datetime(2024, 1, 1)


def filled() -> DictConfig:
    config = DictConfig(p=5)
    config.note = "x"
    return config


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.array([]), []),
        (b"", b""),
        (bytearray(b"ab"), b"ab"),
        (bytearray(), b""),
        (frozenset([3]), [3]),
        ({3, 4}, {3, 4}),
        (1 + 2j, 1 + 2j),
        (slice(1, 2), None),
        (datetime.datetime(2024, 1, 1), None),
        (datetime.timedelta(1), None),
        (Mode.FAST, None),
        (filled(), {"p": 5}),
        (RunConfig(), {"p": 5, "mode": None, "started": None}),
        ({(a, b): a + b for a in range(60) for b in range(60)}, {(a, b): a + b for a in range(60) for b in range(60)}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_plain_values_that_people_keep_beside_weights(value: Any, expected: Any):
    torch.save({"value": value}, "net.pt")
    found = load_pickled(Path("net.pt"))["value"]
    assert (found.tolist() if isinstance(found, torch.Tensor) else found) == expected
