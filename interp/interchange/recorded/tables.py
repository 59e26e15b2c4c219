"""Files of numbers that somebody logged, as columns: csv (W&B, TensorBoard, Lightning), json (the `log_history` of the
Hugging Face Trainer, rows, lists), json lines, and npz. Nothing in them is run, and their size is bounded."""

import contextlib
import csv
import io
import itertools
import json
import math
import re
import sys
import zipfile
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, SupportsFloat

import numpy as np

from interp.errors import InputError
from interp.interchange.plain_files import LARGEST_JSON, read_plain

MOST_BYTES, MOST_ROWS, MOST_COLUMNS, MOST_WORDS, DEEPEST = 64 * 2**20, 1_000_000, 2000, 1000, 8
MOST_CELLS = 10_000_000
LONGEST_LINE = 1_000_000  # of JSON lines
ENDINGS = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".npz")
_MISSING = frozenset(("", "nan", "none", "null", "na", "n/a", "-", "–"))
# Of a column that counts, 1,000 is a thousand; elsewhere a comma may be a decimal one.
_COUNTS, _THOUSANDS = re.compile(r"step|iter|epoch|update|batch", re.IGNORECASE), re.compile(r"[1-9]\d{0,2}(,\d{3})+")
_NO_NAME = frozenset(("value", "values", ""))  # a column that the name of its file names, as TensorBoard writes them


@dataclass
class Column:
    """The numbers of a column, NaN where there is none; the first cell that is no number, with its row; some of the
    words that stand there; how many are infinite, and how many carry a per cent sign.

    >>> column = Column()
    >>> for cell in ("97 %", "", "oops", "inf"):
    ...     column.add(cell)
    >>> column.array.tolist(), column.text, column.infinite, column.signs
    ([97.0, nan, nan, nan], (3, 'oops'), 1, 1)
    """

    numbers: array = field(default_factory=lambda: array("d"))
    text: tuple[int, str] | None = None
    words: dict[str, None] = field(default_factory=dict)
    infinite: int = 0
    signs: int = 0

    def add(self, cell: object) -> None:
        """One more cell."""
        number = math.nan
        try:
            number = self._number(cell)
        except (TypeError, ValueError, OverflowError):
            self.text = self.text or (len(self.numbers) + 1, str(cell)[:40])
            if len(self.words) <= MOST_WORDS:
                self.words[str(cell)[:40]] = None
        if math.isinf(number):
            self.infinite += 1
            number = math.nan
        self.numbers.append(number)

    def _number(self, cell: object) -> float:
        if cell is None:
            return math.nan
        if isinstance(cell, bool) or not isinstance(cell, str | SupportsFloat):
            raise TypeError
        if not isinstance(cell, str):
            return float(cell)
        text = cell.strip()
        if text.lower() in _MISSING:
            return math.nan
        if text.endswith("%"):
            number = float(text[:-1])
            self.signs += 1
            return number
        if "_" in text:
            raise ValueError
        return float(text)

    @property
    def array(self) -> np.ndarray:
        """[row], float64."""
        return np.array(self.numbers, dtype=np.float64)


Table = dict[str, Column]


def read_table(path: Path) -> Table:
    """The columns of a file by name; a column that has no name but "Value" has that of its file.

    Raises InputError, naming the file, for what holds no columns of numbers or is larger than 64 MB or a million rows.
    """
    if path.is_dir():
        is_run = (path / "run.json").exists()
        hint = f"it is a run: interp explain {path}" if is_run else "name the file of curves in it"
        raise InputError(f"{path} is a folder; {hint}")
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise InputError(f"{path} is none of {', '.join(ENDINGS)}; curves are read from these")
    content = _checked_bytes(path)
    if ending == ".npz":
        table = _arrays(path, content)
    elif ending == ".json":
        table = _from_json(path, _parsed(path, _text(path, content)))
    elif ending in (".jsonl", ".ndjson"):
        table = _rows(path, _json_lines(path, _text(path, content)))
    else:
        table = _separated(path, _text(path, content))
    nameless = [name for name in table if name.strip().lower() in _NO_NAME]
    return {path.stem if [name] == nameless else name: column for name, column in table.items()}


def table_of(values: Mapping[Any, Any]) -> Table:
    """Columns given in memory: a mapping from names to lists or arrays of numbers, or a data frame.

    >>> {name: column.array.tolist() for name, column in table_of({"loss": [4.7, None, 0.1]}).items()}
    {'loss': [4.7, nan, 0.1]}
    """
    table: Table = {}
    for name in itertools.islice(values.keys(), MOST_COLUMNS):
        given = values[name]
        try:
            cells = list(itertools.islice(iter(given), MOST_ROWS + 1))
        except TypeError:
            continue  # a number beside the curves
        _check_rows(f"column {str(name)!r}", len(cells))
        table[str(name)] = _column(cells)
    return table


def _column(cells: Iterable[object]) -> Column:
    column = Column()
    for cell in cells:
        column.add(cell)
    return column


def _checked_bytes(path: Path) -> bytes:
    most = LARGEST_JSON if path.suffix.lower() == ".json" else MOST_BYTES
    with contextlib.suppress(OSError):  # reading says why it cannot be read
        if (size := path.stat().st_size) > most:
            raise InputError(
                f"{path} has {size / 2**20:,.0f} MB; at most {most // 2**20} are read. Keep the columns of steps, "
                "losses and accuracies, or every tenth row"
            )
    return read_plain(path, most, "any curves here")


def _check_rows(what: object, rows: int) -> None:
    if rows > MOST_ROWS:
        raise InputError(f"{what} has more than {MOST_ROWS:,} rows; keep every tenth, say")


# ---- text ------------------------------------------------------------------------------------------------------------


def _text(path: Path, content: bytes) -> str:
    if content.startswith(b"version https://git-lfs.github.com/spec/"):
        raise InputError(f"{path} is a Git LFS pointer, the curves are elsewhere: fetch them with git lfs pull")
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InputError(f"{path} is no text, though its name ends with {path.suffix!r}")
    if re.match(r"\s*<(!doctype|html|head|\?xml)", text[:200], re.IGNORECASE):
        raise InputError(f"{path} is a web page, not a table: download the raw file (on GitHub: “Raw”)")
    return text


def _separated(path: Path, text: str) -> Table:
    lines = (line for line in io.StringIO(text, newline="") if line.strip() and not line.startswith("#"))
    head = next(lines, "")
    told = re.match(r"sep=([,;\t|])\s*$", head)  # Excel's, above the names
    head = next(lines, "") if told else head
    if not head:
        raise InputError(f"{path} is empty")
    separator = told[1] if told else max(",;\t|", key=head.count)
    if not head.count(separator) and len(head.split()) > 1:  # columns with spaces between
        reader: Iterator[list[str]] = (line.split() for line in itertools.chain([head], lines))
    else:
        reader = csv.reader(itertools.chain([head], lines), delimiter=separator)
    number = 0
    try:
        first = next(reader)
        _check_names(path, first)
        names = _unique(first)
        columns, counting = [Column() for _ in names], {name for name in names if _COUNTS.search(name)}
        for number, row in enumerate(reader, start=1):
            _check_rows(path, number)
            if number * len(names) > MOST_CELLS:
                raise InputError(
                    f"{path} has {len(names):,} columns and more than {number:,} rows, more cells than the "
                    f"{MOST_CELLS:,} that are read; keep the columns of steps, losses and accuracies"
                )
            if not any(cell.strip() for cell in row):
                continue
            if len(row) > len(names) and any(cell.strip() for cell in row[len(names) :]):
                raise InputError(f"{path}: row {number} has {len(row)} fields, the line of names {len(names)}")
            for column in columns[len(row) :]:
                column.numbers.append(math.nan)
            for index, column in enumerate(columns[: len(row)]):
                cell = row[index]
                if names[index] in counting and _THOUSANDS.fullmatch(cell.strip()):
                    cell = cell.replace(",", "")
                column.add(cell.replace(",", ".") if separator in ";\t" else cell)
    except csv.Error as error:
        raise InputError(f"{path} is no table after row {number}: {error}") from None
    return dict(zip(names, columns, strict=True))


def _unique(names: Sequence[str]) -> list[str]:
    """Names of which each stands once: what is there again is numbered."""
    seen: dict[str, int] = {}
    found = []
    for name in (name.strip() for name in names):
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def _check_names(path: Path, names: Sequence[str]) -> None:
    if len(names) > MOST_COLUMNS:
        raise InputError(f"{path} has {len(names):,} columns; at most {MOST_COLUMNS:,} are read")
    probe = _column(names)
    if probe.text is None and not np.isnan(probe.array).all():
        raise InputError(
            f"{path} has no line of column names (its first is {', '.join(names)[:60]!r}); write one above it, such as "
            "step,train_accuracy,test_accuracy"
        )


# ---- JSON ------------------------------------------------------------------------------------------------------------


def _parsed(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON: {str(error)[:100]}") from None


def _json_lines(path: Path, text: str) -> list[Any]:
    lines = text.splitlines()
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        _check_rows(path, len(rows))
        if len(line) > LONGEST_LINE:
            raise InputError(f"{path} has {len(line):,} letters in line {number}; at most {LONGEST_LINE:,} are read")
        try:
            row = json.loads(line)
            rows.append(_flat(row) if isinstance(row, dict) else row)
        except (ValueError, RecursionError):
            if number < len(lines):  # the last may be still being written
                raise InputError(f"{path} is damaged at line {number}: not JSON") from None
    return rows


def _from_json(path: Path, value: Any) -> Table:
    if isinstance(value, list):
        return _listed(path, value)
    if not isinstance(value, dict):
        raise InputError(f"{path} holds one value; expected rows, or lists of numbers by name")
    if isinstance(value.get("log_history"), list):  # the Trainer of Hugging Face
        return _rows(path, value["log_history"])
    table: Table = {}
    for name, leaf in _leaves(value):
        if len(table) >= MOST_COLUMNS:
            break
        if all(isinstance(entry, dict) for entry in leaf):
            prefix = f"{name}/" if sum(1 for _, other in _leaves(value) if _is_rows(other)) > 1 else ""
            table |= {f"{prefix}{inner}": column for inner, column in _rows(path, leaf).items()}
        elif not any(isinstance(entry, list | dict) for entry in leaf):
            _check_rows(f"{path}, {name!r}", len(leaf))
            table[name] = _column(leaf)
    return table


def _is_rows(leaf: list[Any]) -> bool:
    return all(isinstance(entry, dict) for entry in leaf)


def _listed(path: Path, value: list[Any]) -> Table:
    if value and all(isinstance(entry, list) and len(entry) == 3 for entry in value):  # TensorBoard's download
        _check_rows(path, len(value))
        return dict(zip(("Wall time", "Step", "Value"), map(_column, zip(*value, strict=True)), strict=True))
    if value and not any(isinstance(entry, list | dict) for entry in value):
        _check_rows(path, len(value))
        return {"Value": _column(value)}
    return _rows(path, value)


def _leaves(value: Mapping[str, Any], before: str = "", depth: int = 0) -> Iterator[tuple[str, list[Any]]]:
    """The lists in nested objects, by the names on the way to them."""
    for name, inner in value.items():
        if isinstance(inner, list) and inner:
            yield f"{before}{name}", inner
        elif isinstance(inner, dict) and depth < DEEPEST:
            yield from _leaves(inner, f"{before}{name}/", depth + 1)


def _rows(path: Path, rows: Sequence[Any]) -> Table:
    """Objects, one a row: nested names are joined with a slash, and a name that a row lacks is missing there."""
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path} holds no rows of named numbers")
    _check_rows(path, len(rows))
    flat = [_flat(row) for row in rows]
    names = dict.fromkeys(name for row in flat for name in row)
    if len(names) > MOST_COLUMNS or len(names) * len(rows) > MOST_CELLS:
        raise InputError(f"{path} has {len(names):,} names in {len(rows):,} rows, more than is read")
    return {name: _column(row.get(name) for row in flat) for name in names}


def _flat(row: Mapping[str, Any], before: str = "", depth: int = 0) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            cells |= _flat(value, f"{before}{name}/", depth + 1) if depth < DEEPEST else {}
        elif not isinstance(value, list):
            cells[sys.intern(f"{before}{name}")] = value  # which the next row has too
    return cells


# ---- arrays ----------------------------------------------------------------------------------------------------------


def _arrays(path: Path, content: bytes) -> Table:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            whole = sum(entry.file_size for entry in archive.infolist())
        if whole > 2 * MOST_BYTES:
            raise InputError(f"{path} holds {whole / 2**20:,.0f} MB; at most {2 * MOST_BYTES // 2**20} are read")
        table: Table = {}
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            for name in arrays.files[:MOST_COLUMNS]:
                values = arrays[name]
                if values.ndim == 1 and values.dtype.kind in "fiu":
                    _check_rows(f"{path}, {name!r}", len(values))
                    table[name] = _column(values.tolist())
    except InputError:
        raise
    except Exception as error:  # the library raises what it likes for damaged archives
        said = "objects in it, which nothing unpickles" if "pickle" in str(error) else "no npz archive, or damaged"
        raise InputError(f"{path} cannot be read: {said}") from None
    if not table:
        raise InputError(f"{path} holds no one-dimensional arrays of numbers")
    return table
