"""The result of an analysis that measures one checkpoint, over a run: row by row, also those that were kept before."""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from interp.analysis.contract import Analysis
from interp.analysis.keeping import Shelf
from interp.analysis.provenance import identity_of_rows, path_of, provenance_in_run, step_axis
from interp.analysis.steps import steps_to_show
from interp.analysis.thinned import while_thinned
from interp.errors import InputError
from interp.machine import LargeArray
from interp.models import are_finite
from interp.runs import Run

KEPT_IN_MEMORY = 64  # rows, before those of large arrays are left to their file


class RowsOfRun:
    """The result of one `measure` over a run: arrays allocated once along step, filled row by row. Those that are large
    are pages of a file, of which only the last rows are in memory."""

    def __init__(self, run: Run, analysis: Analysis, parameters: dict[str, Any], shelf: Shelf) -> None:
        self.analysis, self.parameters, self.run = analysis, parameters, run
        self.path = path_of(run, analysis, parameters)
        self.identity = identity_of_rows(run, analysis, parameters)
        self.shelf = shelf
        stored = shelf.load(self.path, self.identity)
        self.stored = stored
        self.known: dict[int, str] = {}
        if stored is not None:
            self.known = dict(
                zip((int(s) for s in stored.step.values), json.loads(stored.attrs["digests"]), strict=True)
            )
        self.arrays: dict[str, np.ndarray] = {}
        self.large: list[LargeArray] = []
        self.wanted: list[int] = []  # of the result
        self.steps: list[int] = []  # of the file: these and others that are fresh
        self.template: xr.Dataset | None = None
        self.row: dict[int, int] = {}

    @cached_property
    def provenance(self) -> dict[str, str | int]:
        """What the result says of itself. It may read many checkpoints: better before work is done than after it."""
        return while_thinned(self.run, lambda: provenance_in_run(self.run, self.analysis, self.parameters))

    def missing(self, digests: Mapping[int, str], wanted: Sequence[int]) -> set[int]:
        """Those of the wanted steps (at most MOST_STEPS of them) whose row is absent or was computed from other
        weights. Rows of other steps stay, as long as they are fresh."""
        self.wanted = steps_to_show(wanted, (), self.analysis.most_steps or len(wanted))
        fresh = {step for step in digests if self.known.get(step) == digests[step]}
        missing = {*self.wanted} - fresh
        self.steps = sorted({*self.wanted} | fresh)
        if self.stored is not None and (missing or len(self.known) != len(fresh)):
            rows = sorted(fresh)
            self.stored, kept = None, self.stored
            self.known = {step: self.known[step] for step in rows}
            if rows:
                self._allocate(kept.isel(step=0, drop=True))
                self._fill(rows, kept)
                if not missing:
                    self.stored = self._dataset(rows)
        return missing

    def add(self, step: int, row: xr.Dataset, digest: str) -> None:
        """Keep what was measured at one step, with the digest of its weights."""
        if self.template is None:
            self._allocate(row)
        for name, array in self.arrays.items():
            values = row.variables[name].values  # row[name] would gather the coordinates of every variable
            if values.dtype != array.dtype or values.shape != array.shape[1:]:
                seen, expected = (f"{a.dtype} {list(a.shape)}" for a in (values, array[0]))
                raise InputError(
                    f"{self.analysis.name}: {name} is {seen} at step {step}, {expected} at others; "
                    "an analysis must give the same types and shapes at every step"
                )
            array[self.row[step]] = values
        self.known[step] = digest
        if len(self.known) % KEPT_IN_MEMORY == 0:
            self._let_go()

    def leave_out(self, gone: Sequence[int]) -> None:
        """Forget the rows of checkpoints that are not there any more."""
        for step in gone:
            self.known.pop(step, None)

    def _allocate(self, template: xr.Dataset) -> None:
        self.template = template
        self.row = {step: index for index, step in enumerate(self.steps)}
        made = {
            str(name): LargeArray((len(self.steps), *v.shape), v.dtype, self.run.path)
            for name, v in template.data_vars.items()
        }
        self.arrays, self.large = {name: array.values for name, array in made.items()}, list(made.values())

    def _let_go(self) -> None:
        for array in self.large:
            array.let_go()

    def _fill(self, steps: Sequence[int], rows: xr.Dataset) -> None:
        """Take over the rows of some steps, one by one: a copy of all of them is as large as the result."""
        places = [self.row[step] for step in steps], rows.indexes["step"].get_indexer(list(steps))
        for name, array in self.arrays.items():
            values = rows.variables[name].values
            for to, place in zip(*places, strict=True):
                array[to] = values[place]
        self._let_go()

    def _dataset(self, steps: Sequence[int]) -> xr.Dataset:
        assert self.template is not None
        whole = len(steps) == len(self.steps)
        index = slice(None) if whole else [self.row[step] for step in steps]
        data = {
            name: (("step", *self.template[name].dims), array[index], self.template[name].attrs)
            for name, array in self.arrays.items()
        }
        coordinates = {name: value.variable for name, value in self.template.coords.items()}
        coordinates["step"] = step_axis(steps)
        attrs = self.template.attrs | self.provenance
        attrs |= {"identity": self.identity, "digests": json.dumps([self.known[step] for step in steps])}
        return xr.Dataset(data, coordinates, attrs)

    def save(self) -> None:
        """Keep on disk what is known so far."""
        done = [step for step in self.steps if step in self.known]
        if self.template is not None and done:
            self.stored = self._dataset(done)
            self.shelf.save(self.analysis.name, self.path, self.stored, self._let_go)

    def result(self) -> xr.Dataset:
        """The rows that were wanted; without those of checkpoints that diverged, or that are gone. Raises InputError
        where none is left."""
        rows = [step for step in self.wanted if step in self.known]
        if self.stored is None or not rows:
            raise self._no_rows()
        if len(rows) == self.stored.sizes["step"]:
            return self.stored
        return self.stored.sel(step=rows).assign_attrs(digests=json.dumps([self.known[step] for step in rows]))

    def _no_rows(self) -> InputError:
        run, there = self.run, set(self.run.steps)
        if not there.intersection(self.wanted):
            return InputError(f"the checkpoints of {run.path} that were asked for were thinned out meanwhile")
        if not any(are_finite(run[step].weights) for step in sorted(there, reverse=True)):
            return InputError(
                f"every checkpoint of {run.path} holds NaN or infinity: training diverged at once; train again with "
                "a smaller --training.lr"
            )
        return InputError(f"training of {run.path} diverged: no weights at the steps asked for are finite")
