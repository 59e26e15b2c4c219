"""Architectures of strangers: what imports, what proves it, which analyses work, in how long.

    python -m benchmarks.strangers [--write docs/bring-your-own-checkpoints.md]

Trains every network of tests/interchange/strangers.py (a second or two each), imports its file with nothing said about
it, compares the logits with its own, and runs every core analysis that its architecture has. With --write the table
replaces what stands between the two marker comments of that file.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch

from benchmarks.table import check_place, put_between_markers
from interp.analysis import discover
from interp.errors import InputError
from interp.interchange import import_run
from interp.models import logits
from tests.interchange.strangers import STRANGERS, Stranger, trained


class Row(NamedTuple):
    """What became of one stranger's file."""

    name: str
    imports: str
    proof: str
    analyses: str
    seconds: float


def row_of(stranger: Stranger) -> Row:
    """Train, import, compare and analyze one network."""
    net = trained(stranger.name)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "net.pt"
        torch.save(net.state_dict(), path)
        began = time.process_time()
        try:
            run = import_run(path, Path(folder) / "run")
        except InputError as error:
            return Row(stranger.name, "refused", str(error)[:80], "", time.process_time() - began)
        seconds = time.process_time() - began
        own, ours = stranger.logits(net), logits(run.last.weights, run.model, stranger.pairs())
        off = float((ours - own).abs().max() / own.abs().max())
        facts = run.info["imported"]["proof"]
        names = [name for name, analysis in discover().items() if analysis.core]
        done, lacks = 0, []
        for name in names:
            try:
                run.result(name)
                done += 1
            except InputError:
                lacks.append(name)
        proof = f"accuracy {facts['accuracy']:.3g}, {facts['runs']} readings run, logits off by {off:.0e}"
        without = f" (not {', '.join(lacks)})" if lacks else ""
        return Row(stranger.name, "yes", proof, f"{done} of {len(names)}{without}", seconds)


def markdown(rows: list[Row]) -> str:
    """The table."""
    lines = ["| network | imports | proof | core analyses | CPU seconds |", "| --- | --- | --- | --- | --- |"]
    lines += [f"| {row.name} | {row.imports} | {row.proof} | {row.analyses} | {row.seconds:.1f} |" for row in rows]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between its marker comments")
    options = parser.parse_args()
    if options.write:
        check_place(options.write)
    rows = []
    for stranger in STRANGERS.values():
        rows.append(row_of(stranger))
        print(rows[-1], flush=True)
    table = markdown(rows)
    print(f"\n{table}")
    if options.write:
        put_between_markers(options.write, table)


if __name__ == "__main__":
    main()
