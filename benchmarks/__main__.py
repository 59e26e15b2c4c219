"""All benchmarks, one after the other, in one table.

    python -m benchmarks [--only NAME ...] [--write README.md]

Some minutes at the canonical sizes; run it on an otherwise idle machine. With --write the table replaces what stands
between the two marker comments of that file.
"""

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path

from benchmarks import analyses, busy_machine, checkpointing, reporting, starting, time_to_grok, training_step
from benchmarks.sizes import add_sizes
from benchmarks.table import Row, check_place, gemm_peak, machine, markdown, put_between_markers
from interp.machine import keep_freed_memory

# To add one: a module with rows(options) and add_options(parser).
BENCHMARKS = {
    "training_step": training_step,
    "checkpointing": checkpointing,
    "analyses": analyses,
    "time_to_grok": time_to_grok,
    "reporting": reporting,
    "busy_machine": busy_machine,
    "starting": starting,
}


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """The rows of the chosen benchmarks, as they are measured."""
    for name in options.only or BENCHMARKS:
        yield from BENCHMARKS[name].rows(options)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], conflict_handler="resolve")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, metavar="NAME", help=f"of: {', '.join(BENCHMARKS)}")
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="put the table between the marker comments of this file"
    )
    for benchmark in BENCHMARKS.values():
        benchmark.add_options(parser)
    add_sizes(parser)
    options = parser.parse_args()
    if options.write:
        check_place(options.write)
    keep_freed_memory()
    found = []
    for row in rows(options):
        found.append(row)
        print(f"{row.what}: {row.ours}  [{row.beside}]  goal {row.goal or 'none'}", flush=True)
    title = f"{machine()}; float32 GEMM peak {gemm_peak():.0f} GFLOP/s. `python -m benchmarks`"
    table = markdown(found, title)
    print(f"\n{table}")
    if options.write:
        put_between_markers(options.write, table)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
