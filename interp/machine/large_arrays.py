"""Arrays too large to be kept in memory while they are filled: their pages are of a file that has no name."""

import mmap
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

LARGE = 32 * 1024 * 1024  # bytes; what is smaller stays in memory


class LargeArray:
    """An array to fill in part after part. Where it is large, it is that of a file in `folder` which has no name, and
    `let_go` gives the memory of what was filled in back to the system; reading it brings it back. In memory where it is
    small, where the folder takes no file or its disk has no room, and on other systems than Linux.

    >>> array = LargeArray((2, 3), np.dtype("float32"), Path(".")).values
    >>> array[0] = 1
    >>> array[0].tolist()
    [1.0, 1.0, 1.0]
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], folder: Path) -> None:
        self._pages: mmap.mmap | None = None
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if size >= LARGE and not dtype.hasobject and sys.platform.startswith("linux"):
            try:
                with tempfile.TemporaryFile(dir=folder) as file:
                    os.posix_fallocate(file.fileno(), 0, size)  # or a full disk would end the process later
                    self._pages = mmap.mmap(file.fileno(), size)
            except OSError:
                pass
        self.values = np.empty(shape, dtype) if self._pages is None else self._mapped(shape, dtype)

    def _mapped(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        assert self._pages is not None
        return np.frombuffer(self._pages, dtype).reshape(shape)

    def let_go(self) -> None:
        """Of the memory alone: nothing that was filled in is lost."""
        if self._pages is not None:
            self._pages.madvise(mmap.MADV_DONTNEED)
