"""`.pt` and `.pth` files: looked through before they are loaded, and loaded only with `weights_only=True`.

Such a file is a zip archive with a pickle, which is a program, and the tensors' bytes. torch's own restricted reader
runs the program without calling anything that is not on its list; we look first, so that what is refused is refused by
name, and so that a file built to exhaust time or memory is not begun. Memory stays that of the tensors that are used:
they are mapped, not read.
"""

import pickletools
import re
import warnings
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from interp.errors import InputError
from interp.interchange.importing.programs import follow
from interp.interchange.importing.source import printable
from interp.interchange.importing.stand_ins import Fields, PassedOver, Settings, plain, stand_in_for
from interp.machine import first_line, open_binary

LARGEST_PROGRAM = 4_000_000  # bytes; a thousand checkpoints in one list take about two million
MOST_ENTRIES = 100_000

_PLAIN = re.compile(
    r"collections\.(OrderedDict|Counter)|builtins\.set|_codecs\.encode|torch\.(Size|device|nn\.parameter\.Parameter)"
    r"|torch\._utils\._rebuild_(tensor|tensor_v2|tensor_v3|parameter|parameter_with_state)|torch\.serialization\._get_layout"
    r"|torch\.(storage\.)?(Float|Double|Half|BFloat16|Long|Int|Short|Char|Byte|Bool|ComplexFloat|ComplexDouble|Typed|Untyped)Storage"
    r"|torch\.(cuda\.)(Float|Double|Half|BFloat16|Long|Int|Short|Char|Byte|Bool)Storage"
    r"|torch\.(float|double|half|bfloat16|u?int|bool|complex)\d*"
)
# A member of an enumeration of somebody's own is written as a call of its class with its value.
_ENUMERATION = re.compile(r"(?!(torch|numpy|builtins|posix|nt|os|sys)\.)[\w.]+\.[A-Z][a-z]\w*")
_FLOATS = re.compile(r"torch\.(cuda\.|storage\.)?(Float|Double|Half|BFloat16|Typed|Untyped)Storage")
_WIDTHS = {  # bytes of a number; an untyped storage counts bytes
    **{"Float": 4, "Double": 8, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2},
    **{"ComplexFloat": 8, "ComplexDouble": 16},
}
_UNUSABLE = {
    "_rebuild_sparse_tensor": "a sparse tensor",
    "_rebuild_qtensor": "a quantized tensor",
    "_rebuild_nested_tensor": "a nested tensor",
    "_rebuild_meta_tensor_no_storage": "a tensor without numbers (device meta)",
    "_rebuild_wrapper_subclass": "a tensor of a class of its own",
    "_rebuild_from_type_v2": "a tensor of a class of its own",
}


def load_pickled(path: Path) -> Any:
    """What `torch.save` wrote. Raises InputError, naming the file and, where it would run code, the name of that
    code."""
    program, sizes = _archive(path)
    _check_sums(path)
    stand_ins = _stand_ins(path, program, sizes)
    try:
        allowed = torch.serialization.safe_globals([(stand_in, name) for name, stand_in in stand_ins.items()])
        with warnings.catch_warnings(action="ignore"), allowed:  # of another protocol, say
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        # Whatever a damaged program makes of torch's reader: the file is at fault, and the first line says how.
        raise InputError(f"{path} cannot be loaded: {_why(error)}") from None
    try:
        _forget_attributes(content, set())
        content = plain(content)
    except RecursionError:
        raise InputError(f"{path} holds containers within containers, deeper than any state dict") from None
    return content


def _why(error: Exception) -> str:
    """What torch's reader says, without its advice to read the file in another way."""
    said = str(error).partition("WeightsUnpickler error:")[2].strip()
    return first_line(ValueError(said)) if said else first_line(error)


def holds_floats(path: Path) -> bool | None:
    """Whether the program of such a file speaks of floating-point tensors at all; None where that cannot be read: in a
    damaged file, and in a bare pickle, which may go on with another. Nothing of it is executed."""
    try:
        words: list[str] = []
        found = False
        for opcode, argument, _ in pickletools.genops(_archive(path)[0]):
            if opcode.name in ("GLOBAL", "INST"):
                found = found or bool(_FLOATS.fullmatch(str(argument).replace(" ", ".")))
            elif opcode.name == "STACK_GLOBAL":
                found = found or bool(_FLOATS.fullmatch(".".join(words[-2:])))
            elif isinstance(argument, str):
                words = [*words[-1:], argument]
    except Exception:
        return None  # damaged, which whoever loads it is told
    return found


def is_pickled(path: Path) -> bool:
    """Whether a file begins like a zip archive or a pickle."""
    with open_binary(path) as file:
        start = file.read(9)
    return start[:4] == b"PK\x03\x04" or (start[:1] == b"\x80" and start[8:] != b"{")


def _archive(path: Path) -> tuple[bytes, dict[str, int]]:
    """The pickle inside the archive and the sizes of the entries of numbers, by their names, after what a zip archive
    can hide was looked for."""
    with open_binary(path) as file:
        if file.read(1) == b"\x80":
            rest = file.read(LARGEST_PROGRAM)  # of gigabytes, perhaps
            if unknown := _named(path, b"\x80" + rest)[1]:
                raise _would_run(path, unknown[0])
            raise InputError(
                f"{path} is a bare pickle, or of torch before 1.6; where you trust it, load it and save it with "
                "a current torch"
            )
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            size = path.stat().st_size
            if len(entries) > MOST_ENTRIES or len(set(names)) != len(names):
                raise InputError(
                    f"{path} is damaged: it has {len(entries)} entries, {len(names) - len(set(names))} of them twice"
                )
            if (
                any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
                or sum(entry.file_size for entry in entries) > size
            ):
                raise InputError(
                    f"{path} is compressed, which torch.save never does: it may be built to fill the memory"
                )
            programs = [entry for entry in entries if entry.filename.split("/")[-1] == "data.pkl"]
            if len(programs) != 1:
                raise InputError(
                    f"{path} is a zip archive, and no file of torch.save: it has {len(programs)} entries "
                    "data.pkl, expected 1"
                )
            if programs[0].file_size > LARGEST_PROGRAM:
                raise InputError(
                    f"{path} describes its tensors in {programs[0].file_size:,} bytes, more than "
                    f"{LARGEST_PROGRAM:,}; split it"
                )
            folder = programs[0].filename.removesuffix("data.pkl") + "data/"
            sizes = {entry.filename.removeprefix(folder): entry.file_size for entry in entries}
            return archive.read(programs[0]), sizes
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path} is damaged: {first_line(error)}") from None


def _check_sums(path: Path) -> None:
    """Raises InputError where an entry is not what its CRC-32 says: a flipped bit in a weight is told by nothing else.
    Also for one that has no sums, as `torch.serialization.set_crc32_options(False)` leaves them."""
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                with archive.open(entry) as file:
                    while file.read(2**20):
                        pass
    except Exception as error:
        raise InputError(f"{path} is damaged: {first_line(error)}; copy or download it again") from None


def _forget_attributes(content: Any, seen: set[int]) -> None:
    """Take away attributes of dictionaries (torch keeps `_metadata` there) and of tensors in nested containers, each
    looked into once: one called `items` would stand before the method."""
    if isinstance(content, torch.Tensor):
        vars(content).clear()
    elif isinstance(content, dict | list | tuple) and id(content) not in seen and len(seen) < LARGEST_PROGRAM:
        seen.add(id(content))
        if isinstance(content, OrderedDict | Counter):
            vars(content).clear()
        for value in content.values() if isinstance(content, dict) else content:
            _forget_attributes(value, seen)


def _stand_ins(path: Path, program: bytes, sizes: Mapping[str, int]) -> dict[str, Any]:
    """What stands in for the objects that a program of torch.save names, by name. Raises InputError for one that names
    more than tensors, plain containers and these, may be built to exhaust time or memory, or whose tensors are not as
    long as what is stored of them. Nothing of it is executed."""
    stand_ins, unknown = _named(path, program)
    try:
        followed = follow(path, program, stand_ins, unknown)
    except InputError:
        if unknown:
            raise _would_run(path, unknown[0]) from None
        raise
    except Exception as error:
        raise InputError(f"{path} is damaged: its pickle cannot be read: {first_line(error)}") from None
    for name in unknown:
        if name not in followed.enumerations - followed.otherwise or not _ENUMERATION.fullmatch(name):
            raise _would_run(path, name)
        stand_ins[name] = PassedOver
    # Mapped, a storage that is longer than its entry would go on into the next one.
    for key, kind, n in followed.storages:
        width = _WIDTHS.get(kind.rpartition(".")[2].removesuffix("Storage"), 1)
        if sizes.get(key) != n * width:
            raise InputError(
                f"{path} is damaged: a tensor claims {n * width:,} bytes of its entry {printable(key)!r}, and "
                f"{sizes.get(key, 0):,} are stored"
            )
    # torch's reader fills dictionaries alone, so what a program fills is handed out as one.
    return stand_ins | {name: Fields for name in followed.filled if stand_ins.get(name) is Settings}


def _named(path: Path, program: bytes) -> tuple[dict[str, Any], list[str]]:
    """What stands in for the objects that a program names, of any protocol, and the names that nothing stands in
    for."""
    names: dict[str, None] = {}
    try:
        for name in _names(path, program):
            names[name] = None
    except InputError:
        raise
    except Exception as error:
        for name in names:  # what is cut off, or padded with something else, is told by what it would run
            if not _PLAIN.fullmatch(name) and _stand_in(path, name) is None:
                raise _would_run(path, name) from None
        raise InputError(f"{path} is damaged: its pickle cannot be read: {first_line(error)}") from None
    stand_ins, unknown = {}, []
    for name in names:
        if _PLAIN.fullmatch(name):
            continue
        if (stand_in := _stand_in(path, name)) is None:
            unknown.append(name)
        else:
            stand_ins[name] = stand_in
    return stand_ins, unknown


def _names(path: Path, program: bytes) -> Iterator[str]:
    """The objects that a program names, one after the other."""
    words: list[str] = []
    for opcode, argument, _ in pickletools.genops(program):
        if opcode.name in ("GLOBAL", "INST"):
            yield _modern(str(argument).replace(" ", "."))
        elif opcode.name == "STACK_GLOBAL":
            yield _modern(".".join(words[-2:]))
        elif opcode.name in ("EXT1", "EXT2", "EXT4"):
            raise InputError(f"{path} names code by a number (copyreg {argument}); nothing of it was executed")
        elif isinstance(argument, str):
            words = [*words[-1:], argument]


def _stand_in(path: Path, name: str) -> Any:
    """What stands in for a name; None where nothing does. Raises InputError for a tensor that is none of weights."""
    last = name.rpartition(".")[2]
    if last in _UNUSABLE and name.startswith("torch."):
        raise InputError(f"{path} holds {_UNUSABLE[last]} ({name}), and weights are plain tensors")
    if re.fullmatch(r"torch\.float(8|4)_\w+", name):
        raise InputError(f"{path} holds numbers of type {name}; weights are float64, float32, float16 or bfloat16")
    return stand_in_for(name)


def _modern(name: str) -> str:
    """A name as Python 3 has it, where it is written as Python 2 had it, which torch still does."""
    return name.replace("__builtin__.", "builtins.", 1) if name.startswith("__builtin__.") else name


def _would_run(path: Path, name: str) -> InputError:
    return InputError(
        f"{path} would run {name!r}, which is not among plain tensors and containers; nothing of it was executed. "
        "Where you trust it, load it there and save its state dict alone"
    )
