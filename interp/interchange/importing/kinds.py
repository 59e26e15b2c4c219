"""What a file is when it holds no weights that are read here: told by its first bytes, with what mends it."""

import json
import os
import re
import zipfile
from pathlib import Path

from interp.errors import InputError
from interp.interchange.importing.source import printable
from interp.machine import first_line, open_binary

_BEGINNING = 4096
_SAVE_STATE = "torch.save(model.state_dict(), 'weights.pt')"
# How a file of another program begins → what it is, and the way from there.
_MAGIC = {
    b"\x89HDF\r\n\x1a\n": (
        "an HDF5 file (Keras, h5py)",
        "read it with h5py there, and save the arrays: np.savez('weights.npz', **arrays)",
    ),
    b"GGUF": ("a GGUF file", "convert it to safetensors there"),
    b"\x1f\x8b": ("compressed with gzip", "unpack it: gunzip"),
    b"BZh": ("compressed with bzip2", "unpack it: bunzip2"),
    b"\xfd7zXZ\x00": ("compressed with xz", "unpack it: unxz"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "unpack it"),
    b"Rar!": ("a RAR archive", "unpack it"),
}
# Endings of what is no checkpoint that is read here, and the way from there.
OTHER_ENDINGS = {
    ".onnx": ("an ONNX graph", f"save the state dict in place of the graph: {_SAVE_STATE}"),
    ".h5": _MAGIC[b"\x89HDF\r\n\x1a\n"],
    ".hdf5": _MAGIC[b"\x89HDF\r\n\x1a\n"],
    ".keras": ("a Keras archive", "np.savez('weights.npz', **{w.path: w.numpy() for w in model.weights})"),
    ".msgpack": (
        "a Flax checkpoint (msgpack)",
        "np.savez('weights.npz', **flax.traverse_util.flatten_dict(params, sep='.'))",
    ),
    ".gguf": _MAGIC[b"GGUF"],
    ".pkl": ("a pickle", f"nothing is unpickled here; where you trust it, load it there and {_SAVE_STATE}"),
    ".pickle": ("a pickle", f"nothing is unpickled here; where you trust it, load it there and {_SAVE_STATE}"),
    ".joblib": ("a pickle (joblib)", f"nothing is unpickled here; where you trust it, load it there and {_SAVE_STATE}"),
    ".distcp": (
        "a part of a distributed checkpoint",
        "python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER weights.pt",
    ),
}
_ORBAX = ("_CHECKPOINT_METADATA", "_METADATA", "manifest.ocdbt", "checkpoint.orbax")


def check_kind(path: Path) -> None:
    """Raises InputError, saying what it is and what mends it, for a file that holds no weights: empty, a page of HTML,
    an answer in JSON, cut short, or another program's. A pointer of Git LFS is told by whoever reads it."""
    with open_binary(path) as file:
        start = os.pread(file.fileno(), _BEGINNING, 0)
        size = os.fstat(file.fileno()).st_size
    if not size:
        raise InputError(f"{path} is empty: it has 0 bytes; was it cut off while it was written or downloaded?")
    if start[5:9] == b"\x00\x00\x00{":
        return  # safetensors; the length that it begins with can look like anything
    for magic, (what, way) in _MAGIC.items():
        if start.startswith(magic):
            raise InputError(f"{path} is {what}, which is not read here; {way}")
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if re.match(rb"(?i)<(!doctype html|html|head|body)\b", text):
        title = re.search(rb"(?is)<title[^>]*>(.{1,200}?)</title", start)
        said = f" ({printable(title[1].decode(errors='replace').strip())!r})" if title else ""
        raise InputError(
            f"{path} is a page of HTML{said}, saved in place of the weights: download the file itself (on GitHub "
            "the raw file, on the Hub /resolve/ and not /blob/)"
        )
    if text.startswith(b"<?xml"):
        raise InputError(f"{path} is XML, as servers answer where there is no file: download it again")
    if text[:1] in (b"{", b"["):
        raise _json(path, size)
    if path.suffix.lower() in OTHER_ENDINGS:
        what, way = OTHER_ENDINGS[path.suffix.lower()]
        raise InputError(f"{path} is {what}, which is not read here; {way}")
    if start[257:262] == b"ustar":
        raise InputError(f"{path} is a tar archive, which is not read here; unpack it: tar -xf")
    if start.startswith(b"PK\x03\x04"):
        _check_zip(path, size)


def is_plain_data(path: Path) -> bool:
    """Whether a file begins like none that a checkpoint is kept in: `train.bin` of tokens, say."""
    with open_binary(path) as file:
        start = os.pread(file.fileno(), 64, 0)
    return not (
        start.startswith((b"PK", b"\x80", b"version https://git-lfs", *_MAGIC)) or start[5:9] == b"\x00\x00\x00{"
    )


def _json(path: Path, size: int) -> InputError:
    """What a file of JSON says, where weights were expected: often why a server did not give them."""
    said = ""
    if size <= 1_000_000:
        try:
            content = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            content = None
        keys = ("error", "message", "detail", "error_description")
        if isinstance(content, dict):
            said = next((f": {printable(content[key], 120)!r}" for key in keys if content.get(key)), "")
    return InputError(f"{path} is JSON, and no weights{said}; download it again, or name the file of the weights")


def _check_zip(path: Path, size: int) -> None:
    """Raises InputError for an archive that is cut short, or that holds a program, or somebody else's files."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        if "not a zip file" in str(error):
            raise InputError(
                f"{path} is damaged: it is cut short: an archive of {size:,} bytes without its end; copy or download "
                "it again"
            ) from None
        raise InputError(f"{path} is damaged: {first_line(error)}") from None
    except Exception as error:  # whatever a damaged directory makes of the reader
        raise InputError(f"{path} is damaged: {first_line(error)}") from None
    inside = {name.partition("/")[2] for name in names} | set(names)
    if "constants.pkl" in inside or any(name.startswith("code/") for name in inside):
        raise InputError(
            f"{path} is a TorchScript archive (torch.jit.save), which holds code; nothing of it was executed. Where "
            f"you trust it: model = torch.jit.load(…); {_SAVE_STATE}"
        )
    if "model.weights.h5" in inside:
        what, way = OTHER_ENDINGS[".keras"]
        raise InputError(f"{path} is {what}, which is not read here; {way}")


def check_folder_kind(folder: Path, names: list[str]) -> None:
    """Raises InputError for a folder that is one checkpoint of another program: orbax, a distributed checkpoint,
    TensorFlow."""
    if any(name in _ORBAX for name in names):
        raise InputError(
            f"{folder} is a checkpoint of orbax (JAX), which is not read here; restore it there, and "
            "np.savez('weights.npz', **flax.traverse_util.flatten_dict(params, sep='.'))"
        )
    if ".metadata" in names and any(name.endswith(".distcp") for name in names):
        raise InputError(
            f"{folder} is a distributed checkpoint, which is not read here; join it there: python -m "
            "torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER weights.pt"
        )
    if any(re.search(r"\.data-\d{5}-of-\d{5}$", name) for name in names) or "saved_model.pb" in names:
        raise InputError(
            f"{folder} is a checkpoint of TensorFlow, which is not read here; load it there, and "
            "np.savez('weights.npz', **{v.name: v.numpy() for v in model.variables})"
        )
