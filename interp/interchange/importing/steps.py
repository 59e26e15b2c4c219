"""Which step a checkpoint is of, as its file's name tells."""

import re
from pathlib import Path

UNKNOWN_STEP = -1

_SAID = re.compile(
    r"(?:^|[_\-. ])(?:epoch|step|iteration|iter|checkpoint|ckpt|ep)[_\-=]?[es]?(\d{1,9})(?=[_\-. ]\D|[_\-]|$)"
)
_AT_THE_END = re.compile(r"(?:^|(?<!\d)\.|[_\- ])[es]?[_\-=]?(\d{1,9})$")
# What stands before a number that is something else: a setting, a date, one run of several.
_OTHER = re.compile(
    r"(?:^|[_\-. ])"
    r"(seed|p|mod|modulus|prime|run|trial|fold|rank|part|shard|v|ver|version|lr|wd|decay|frac|fraction|alpha|layers?"
    r"|heads?|dim|d|n|width)"
    r"[_\-. =]\d+$"
)
_DATE = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])([0-2]\d|3[01])")


def step_in_name(path: Path) -> int | None:
    """The number that a file's name gives as its step (`1000.pth`, `checkpoint_e010000.pt`, `step_5_seed_0.pt`); 0 for
    `init`.

    None where there is none, or where the number is that of something else: a seed, a modulus, a date.
    """
    stem = path.name.lower().removesuffix(path.suffix.lower())
    if re.fullmatch(r"(.*[_\-.])?init(ial)?", stem):
        return 0
    if said := _SAID.findall(stem):
        return int(said[-1])
    match = _AT_THE_END.search(stem)
    if match is None or _OTHER.search(stem) or _DATE.fullmatch(match[1]):
        return None
    return int(match[1])


def is_final(path: Path) -> bool:
    """Whether a file is called the final one, or the last."""
    return re.search(r"(^|[_\-.])(final|last)([_\-.]|$)", path.stem.lower()) is not None
