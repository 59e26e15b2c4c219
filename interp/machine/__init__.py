"""This computer: its files, its memory, its threads and processes."""

from interp.machine.background import computed_ahead
from interp.machine.files import (
    foreign_shapes,
    lock_folder,
    move_into_place,
    open_binary,
    read_bytes,
    read_foreign_tensors,
    read_json,
    read_lines,
    read_stacked,
    read_tensors,
    reason,
    remove_leftovers,
    temporary_beside,
    tensor_bytes,
    write_atomically,
)
from interp.machine.memory import give_back_freed_memory, keep_freed_memory

__all__ = [
    "computed_ahead",
    "foreign_shapes",
    "give_back_freed_memory",
    "keep_freed_memory",
    "lock_folder",
    "move_into_place",
    "open_binary",
    "read_bytes",
    "read_foreign_tensors",
    "read_json",
    "read_lines",
    "read_stacked",
    "read_tensors",
    "reason",
    "remove_leftovers",
    "temporary_beside",
    "tensor_bytes",
    "write_atomically",
]
