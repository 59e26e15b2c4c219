"""Texts that are built to hang who parses them: configurations, lists of pairs, mapping files, curves."""

import json
from collections.abc import Callable, Iterator

from tests.interchange.hostile_places import CURVES

DEEP = b"[" * 100_000 + b"]" * 100_000
DEEP_OBJECT = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
LONG_NUMBER = b"9" * 1_000_000
LAUGHS = b"a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"a%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d]\n" % (n, n, *[n - 1] * 10)
    for n in range(1, 12)
)
KILO = 1000


def texts() -> Iterator[tuple[str, str, Callable[[], bytes]]]:
    """Place, what is hostile, and the content."""
    json_places = [
        *("beside: config.json", "beside: w.json", "beside: train_indices.json", "beside: split.json"),
        *("--config c.json", "--split s.json", "trainer_state.json", "an index", "curves c.json", "curves c.jsonl"),
        "metrics.jsonl beside arrays",
    ]
    for place in json_places:
        yield place, "nested 100,000 deep", lambda: DEEP
        yield place, "objects nested 100,000 deep", lambda: DEEP_OBJECT
        yield place, "a number of a million digits", lambda: b'{"p": ' + LONG_NUMBER + b', "step": 1}'
        yield place, "a list of numbers of a million digits", lambda: b"[" + LONG_NUMBER + b"]"
        yield place, "half a letter", lambda: b'{"p": 5, "operation": "\\ud800\\u0000", "\\ud800": 1}'
        yield (
            place,
            "infinite",
            lambda: b'{"p": Infinity, "global_step": NaN, "train_indices": [Infinity], "n_heads": 1e999}',
        )
        yield (
            place,
            "huge numbers",
            lambda: b'{"p": 1000000000000000000, "global_step": 1e18, "train_indices": [10000000000000000000000]}',
        )
        yield place, "no text", lambda: bytes(range(256)) * KILO
        yield place, "60 MB of brackets", lambda: b"[" + b"[]," * 20_000_000 + b"[]]"
        yield place, "a word of 60 MB", lambda: b'{"operation": "' + b"x" * 60_000_000 + b'"}'
        yield place, "a million keys", lambda: json.dumps({f"k{n}": n for n in range(1_000_000)}).encode()
    for place in ("beside: config.yaml", "--config c.yaml", "beside: hparams.yaml"):
        yield place, "a thousand million laughs", lambda: LAUGHS
        yield place, "nested 100,000 deep", lambda: DEEP
        yield place, "1 MB of flow", lambda: b"[" + b"[]," * 330_000 + b"]"
        yield place, "a number of 900,000 digits", lambda: b"p: " + b"9" * 900_000
        yield place, "a class", lambda: b"!!python/object/apply:os.mkdir [executed]\n"
        yield (
            place,
            "keys merged again and again",
            lambda: b"".join(
                [
                    b"a0: &a0 {k0: 0}\n",
                    *(b"a%d: &a%d {<<: [*a%d, *a%d], k%d: 0}\n" % (n, n, n - 1, n - 1, n) for n in range(1, 3000)),
                ]
            ),
        )
        yield place, "sexagesimal", lambda: b"p: " + b":".join([b"59"] * 200_000)
    for place in ("--config c.toml", "--mapping"):
        yield place, "nested 100,000 deep", lambda: b"a = " + DEEP
        yield place, "dotted 100,000 deep", lambda: b".".join([b"a"] * 100_000) + b" = 1"
        yield place, "tables 20,000 deep", lambda: b"[" + b".".join([b"a"] * 20_000) + b"]\nx = 1"
        yield place, "a number of a million digits", lambda: b"p = " + LONG_NUMBER
        yield place, "no text", lambda: bytes(range(256)) * KILO
        yield place, "50 MB", lambda: b"a = [" + b"1," * 25_000_000 + b"]"
    for place in ("curves c.csv", "curves c.tsv"):
        yield place, "one line of 60 MB", lambda: b"step," + b"x" * 60_000_000
        yield place, "one field of 60 MB", lambda: CURVES + b'"' + b"x" * 60_000_000
        yield place, "a million columns", lambda: b",".join(b"c%d" % n for n in range(1_000_000)) + b"\n1,2\n"
        yield place, "a row of ten million fields", lambda: CURVES + b"1," * 10_000_000
        yield place, "30 million empty lines", lambda: CURVES + b"\n" * 30_000_000
        yield (
            place,
            "two thousand columns, a million short rows",
            lambda: b",".join(b"c%d" % n for n in range(2000)) + b"\n" + b"1\n" * 999_000,
        )
        yield place, "steps of 10^18", lambda: b"step,test_accuracy\n1000000000000000000,1\n2,1\n"
        yield place, "infinite steps", lambda: b"step,test_accuracy\ninf,1\nnan,1\n"
        yield place, "a number of a million digits", lambda: b"step,test_accuracy\n" + LONG_NUMBER + b",1\n"
        yield place, "NUL", lambda: b"step,test_accuracy\n1,\0\n"
        yield place, "no text", lambda: bytes(range(256)) * KILO
        yield place, "names of escapes", lambda: b"step,\x1b[31mred,test_accuracy\n1,2,x\n"
    yield "--module", "nested 100,000 deep", lambda: b"x = " + DEEP
    yield "--module", "no text", lambda: bytes(range(256)) * KILO
    yield "--module", "a number of 9^9^9^9", lambda: b"x = 1 if 0 else 2\nbuild = 9\n"
