"""What the C library's allocator does with freed memory: to keep it decides a third of the training step's time."""

import ctypes
import sys


def keep_freed_memory() -> None:
    """Let glibc keep freed arrays of up to 32 MiB for the next one of their kind, instead of returning them to the
    system and taking a page fault per 4 KiB again. Does nothing where there is no glibc; changes no result."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        m_trim_threshold, m_mmap_threshold = -1, -3  # malloc.h
        mallopt(m_mmap_threshold, 32 * 1024 * 1024)
        mallopt(m_trim_threshold, 1024 * 1024 * 1024)


def give_back_freed_memory() -> None:
    """The opposite, once: what has been kept and is free goes back to the system, before something large is made."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None
    if trim is not None:
        trim(0)
