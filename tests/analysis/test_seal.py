"""Seals: what this user wrote is believed, to the last bit, and nothing else is; nor does it take time or memory."""

import hashlib
import hmac
import io
import os
import random
import stat
import threading
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from interp.analysis import load_result, save_result
from interp.analysis.seal import LINE, TAG, WIDTH, key_path, seal, unsealed
from interp.errors import InputError

RESULT = xr.Dataset(
    {"norm": ("step", [3.0, np.nan], {"units": "1"}), "is_key": (("step", "part"), [[True, False], [True, True]])},
    {"step": ("step", [0, 10], {"long_name": "step"}), "part": ("part", ["one", "other"])},
    {"identity": "mine", "digests": '["a", "b"]'},
)
# What is wrong twice: once in what it says, and once because it was said by somebody else.
OTHER = RESULT.assign(norm=("step", [99.0, 1.0], {"units": "1"}))


@pytest.fixture(autouse=True)
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the key of this test lies; it is not there yet."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return key_path()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A result that was written here."""
    save_result(path := tmp_path / "results" / "norms.nc", RESULT)
    assert load_result(path, "mine").identical(RESULT)
    return path


def resealed(content: bytes, key: bytes, *, length: int | None = None) -> bytes:
    """With a line written by whoever has this key."""
    size = len(content) if length is None else length
    said = TAG + f"{size:020d} {hashlib.sha256(content).hexdigest()} ".encode()
    return content + said + hmac.new(key, said, hashlib.sha256).hexdigest().encode() + b"\n"


# ---- what is believed ------------------------------------------------------------------------------------------------


def test_a_result_has_no_byte_that_can_be_another(path: Path):
    """In its header (names, dimensions, attributes, types), in what only fills it up, its numbers, and the seal."""
    whole, drawn = path.read_bytes(), random.Random(0)
    places = [*range(len(whole) - WIDTH), *drawn.sample(range(len(whole) - WIDTH, len(whole)), 50)]
    assert len(places) > 400
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << drawn.randrange(8))]) + whole[place + 1 :])
        assert load_result(path, "mine") is None, place
    path.write_bytes(whole)
    assert load_result(path, "mine").identical(RESULT)


def test_a_result_that_is_cut_lengthened_or_swapped_is_none(path: Path):
    whole = path.read_bytes()
    content, line = whole[:-WIDTH], whole[-WIDTH:]
    damaged = [whole[:end] for end in range(0, len(whole), 7)]
    damaged += [
        whole + b"\n",
        whole + line,
        line,
        line + whole,
        content,
        content[::-1] + line,
        b"x" + content[1:] + line,
    ]
    damaged += [content + bytes(4) + line, content[:-4] + line, whole.replace(b"\n", b"\r\n")]
    for number, bad in enumerate(damaged):
        path.write_bytes(bad)
        assert load_result(path, "mine") is None, number


def test_a_result_of_a_stranger_is_none(path: Path, key: Path, tmp_path: Path):
    save_result(other := tmp_path / "other.nc", OTHER)
    mine, doctored = path.read_bytes(), other.read_bytes()[:-WIDTH]
    forged = {
        "without a seal": doctored,
        "with the line of mine": doctored + mine[-WIDTH:],
        "with a key of their own": resealed(doctored, b"k" * 32),
        "without a key": resealed(doctored, b""),
        "with a lie about its length": resealed(doctored, b"k" * 32, length=0),
        "with the sum of another": doctored + mine[-WIDTH:][: len(TAG) + 21] + resealed(doctored, b"")[-130:],
        "mine, with another line behind": mine + resealed(mine, b"k" * 32)[-WIDTH:],
    }
    for what, content in forged.items():
        path.write_bytes(content)
        assert load_result(path, "mine") is None, what
    path.write_bytes(resealed(doctored, key.read_bytes()))  # the only thing that is missing to each of them
    assert load_result(path, "mine").identical(OTHER)


def test_a_sealed_result_in_the_place_of_another_is_none(path: Path):
    save_result(path, RESULT.assign_attrs(identity="of another run"))
    assert load_result(path, "mine") is None


def test_other_programs_read_a_sealed_file(path: Path):
    """The line stands behind what NetCDF reads."""
    with xr.open_dataset(path, engine="scipy") as read:
        assert read.norm.identical(RESULT.norm)
        assert (read.is_key == RESULT.is_key).all()


# ---- the key ---------------------------------------------------------------------------------------------------------


def test_a_key_is_made_once_and_for_its_user_alone(path: Path, key: Path, tmp_path: Path):
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    assert len(before) == 32
    save_result(tmp_path / "other.nc", RESULT)
    assert key.read_bytes() == before


def test_nothing_is_made_where_something_is_only_read(key: Path, tmp_path: Path):
    (tmp_path / "x.nc").write_bytes(resealed(b"CDF\x01", b"k" * 32))
    assert load_result(tmp_path / "x.nc", "mine") is None
    assert not key.exists()


def test_with_the_key_another_machine_believes_it_and_without_it_does_not(
    path: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "elsewhere"))
    assert load_result(path, "mine") is None
    save_result(tmp_path / "other.nc", RESULT)
    assert key_path().read_bytes() != key.read_bytes()
    assert load_result(path, "mine") is None
    key_path().write_bytes(key.read_bytes())
    assert load_result(path, "mine").identical(RESULT)


def test_whoever_makes_the_key_at_once_agrees(key: Path):
    """Threads here: the lock is that of an open file, and each of them opens it for itself, as processes do."""
    start = threading.Barrier(8)

    def sealed() -> io.BytesIO:
        file = io.BytesIO(b"content")
        start.wait()
        seal(file)
        return file

    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            key.unlink(missing_ok=True)
            files = [pool.submit(sealed) for _ in range(8)]
            assert [unsealed(file.result()) for file in files] == [b"content"] * 8


def test_a_key_that_was_not_written_whole_is_made_anew(path: Path, key: Path):
    key.write_bytes(b"half a key")
    assert load_result(path, "mine") is None
    save_result(path, RESULT)
    assert len(key.read_bytes()) == 32
    assert load_result(path, "mine").identical(RESULT)


def link(key: Path) -> None:
    key.with_name("elsewhere").write_bytes(key.read_bytes())
    key.unlink()
    key.symlink_to("elsewhere")


NO_KEYS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a link": (link, "symbolic link"),
    "a folder": (lambda key: (key.unlink(), key.mkdir()), "it is not a plain file|Is a directory"),
    "a pipe": (lambda key: (key.unlink(), os.mkfifo(key)), "it is not a plain file"),
    "readable by others": (lambda key: key.chmod(0o640), "others can read or write it"),
    "in a folder that is none": (
        lambda key: (key.unlink(), key.parent.rmdir(), key.parent.touch()),
        "File exists|Not a",
    ),
}


@pytest.mark.parametrize("what", NO_KEYS)
def test_what_is_no_key_of_this_user_s_is_refused(what: str, path: Path, key: Path):
    damage, words = NO_KEYS[what]
    damage(key)
    assert load_result(path, "mine") is None
    before = path.read_bytes()
    with pytest.raises(InputError, match=f"there is no key to seal results with, {key}: .*({words})"):
        save_result(path, RESULT)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_key_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    if os.getuid() == 0:  # what root owns nobody else can have made
        assert load_result(path, "mine") is not None
        return
    assert load_result(path, "mine") is None


# ---- what is no plain file -------------------------------------------------------------------------------------------


def test_a_link_to_a_result_is_none(path: Path, tmp_path: Path):
    path.rename(tmp_path / "norms.nc")
    path.symlink_to(tmp_path / "norms.nc")
    assert load_result(path, "mine") is None
    save_result(path, RESULT)
    assert not path.is_symlink()
    assert load_result(path, "mine").identical(RESULT)


def test_a_linked_folder_of_results_is_none(path: Path, tmp_path: Path):
    path.parent.rename(tmp_path / "elsewhere")
    path.parent.symlink_to(tmp_path / "elsewhere")
    before = (tmp_path / "elsewhere" / "norms.nc").read_bytes()
    assert load_result(path, "mine") is None
    with pytest.raises(InputError, match="results is a symbolic link"):
        save_result(path, OTHER)
    assert (tmp_path / "elsewhere" / "norms.nc").read_bytes() == before


@pytest.mark.parametrize("what", ["pipe", "device", "folder", "sparse", "sparse, with a line of ours"])
def test_what_is_no_result_takes_no_time_and_no_memory(what: str, path: Path):
    line = path.read_bytes()[-WIDTH:]
    path.unlink()
    if what == "pipe":
        os.mkfifo(path)
    elif what == "device":
        path.symlink_to("/dev/zero")
    elif what == "folder":
        path.mkdir()
    else:
        with open(path, "wb") as file:
            file.truncate(1 << 40)
            if "line" in what:
                assert LINE.fullmatch(line)
                file.seek(-WIDTH, os.SEEK_END)
                file.write(line)
    tracemalloc.start()
    begun = time.process_time()  # whatever else the machine is doing
    assert load_result(path, "mine") is None
    assert time.process_time() - begun < 1
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()
