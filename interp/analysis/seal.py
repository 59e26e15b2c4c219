"""Seals: whether a file was written here, by this user, and whether every byte is still the one that was written.

Results are believed when they are read again, and folders of runs go from hand to hand. So a result ends in a line of
fixed width that only this user can write: after the N bytes of the result

    LINE = TAG, N in 20 digits, SHA-256 of the N bytes, HMAC-SHA256(key, all of the line before it)

with a key of 32 random bytes in the user's data directory, which is made when it is first needed and which no run
holds. What has no such line, or another byte anywhere, is as if it were not there: it is computed anew. A seal says
nothing about the machine: with a copy of the key, another machine of the same user believes the results of this one.
Who can read the key can forge results; who can write to the user's files can change this program as well.
"""

import fcntl
import hashlib
import hmac
import os
import re
import stat
from io import BufferedIOBase
from pathlib import Path
from typing import NamedTuple

from interp.errors import InputError

TAG = b"\ninterp result, sealed 1 "
LINE = re.compile(re.escape(TAG) + rb"(?P<length>\d{20}) (?P<digest>[0-9a-f]{64}) (?P<proof>[0-9a-f]{64})\n")
WIDTH = len(TAG) + 20 + 1 + 64 + 1 + 64 + 1
_KEY_BYTES = 32
_AT_A_TIME = 1 << 20


def key_path() -> Path:
    """Where the key of this user lies: `interp/key` in the user's data directory."""
    from platformdirs import user_data_path

    return user_data_path("interp") / "key"


def seal(file: BufferedIOBase) -> None:
    """Append the line to a file that is open to be read and written. Raises InputError where there is no key and none
    can be made, and OSError where the file cannot be written.

    >>> import io
    >>> file = io.BytesIO(b"numbers")
    >>> seal(file)
    >>> len(file.getvalue()) - WIDTH, unsealed(file)
    (7, b'numbers')
    """
    key, digest, length = _key(make=True), hashlib.sha256(), 0
    assert key is not None
    file.seek(0)
    while part := file.read(_AT_A_TIME):
        digest.update(part)
        length += len(part)
    file.write(_line(key, length, digest.hexdigest()))
    file.flush()


def unsealed(file: BufferedIOBase) -> bytes | None:
    """What a file holds before its line, if this user sealed it; None for any other file, of which at most the last
    WIDTH bytes are read.

    >>> import io
    >>> seal(file := io.BytesIO(b"numbers"))
    >>> unsealed(io.BytesIO(file.getvalue().replace(b"n", b"m", 1))) is None
    True
    """
    if (line := believed(file)) is None:
        return None
    file.seek(0)
    content = file.read(line.length)
    return content if hashlib.sha256(content).hexdigest() == line.digest else None


class Believed(NamedTuple):
    """What a line of ours says of the file before it: its length in bytes, and their SHA-256 in hexadecimal digits.

    >>> Believed(7, hashlib.sha256(b"numbers").hexdigest()).length
    7
    """

    length: int
    digest: str


def believed(file: BufferedIOBase) -> Believed | None:
    """What the line at the end of a file says, if this user wrote it; None for any other file, of which at most the
    last WIDTH bytes are read. Whether the bytes before the line are still those, it does not look.

    >>> import io
    >>> seal(file := io.BytesIO(b"numbers"))
    >>> believed(file).length
    7
    """
    size = file.seek(0, os.SEEK_END)
    if size < WIDTH:
        return None
    file.seek(size - WIDTH)
    line = file.read(WIDTH)
    found = LINE.fullmatch(line)
    if found is None or int(found["length"]) != size - WIDTH or (key := _key(make=False)) is None:
        return None
    # Only of a line that is ours is the length believed, and as much read as it says.
    digest = found["digest"].decode()
    return Believed(size - WIDTH, digest) if hmac.compare_digest(line, _line(key, size - WIDTH, digest)) else None


def _line(key: bytes, length: int, digest: str) -> bytes:
    said = TAG + f"{length:020d} {digest} ".encode()
    return said + hmac.new(key, said, hashlib.sha256).hexdigest().encode() + b"\n"


def _key(*, make: bool) -> bytes | None:
    """The key of this user; without `make`, None where there is none. It is never looked for through a link, and one
    that others can read or write, or that is somebody else's, is none: they could seal in our name."""
    path = key_path()
    try:
        if make:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = _read(path)
        if key is None and make:
            key = _made(path)
    except OSError as error:
        if not make:
            return None
        raise InputError(f"there is no key to seal results with, {path}: {error.strerror or error}") from None
    return key


def _read(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        _check_is_ours(descriptor)
        key = os.read(descriptor, _KEY_BYTES + 1)
    finally:
        os.close(descriptor)
    return key if len(key) == _KEY_BYTES else None  # shorter: it is being made


def _made(path: Path) -> bytes:
    """A new key, or that of whoever was quicker: it is written under a lock by whoever finds the file without one."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        _check_is_ours(descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        key = os.pread(descriptor, _KEY_BYTES + 1, 0)
        if len(key) != _KEY_BYTES:
            key = os.urandom(_KEY_BYTES)
            os.ftruncate(descriptor, 0)
            if os.pwrite(descriptor, key, 0) != _KEY_BYTES:
                raise OSError("it was not written whole")
            os.fsync(descriptor)
        return key
    finally:
        os.close(descriptor)


def _check_is_ours(descriptor: int) -> None:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise OSError("it is not a plain file")
    if found.st_uid not in (os.geteuid(), 0):
        raise OSError("it belongs to another user")
    if found.st_mode & 0o077:
        raise OSError("others can read or write it; keep it to yourself (chmod 600), or remove it, if they may have")
