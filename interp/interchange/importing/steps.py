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
# Of folders a number alone at the end is often that of a run (`exp_2`), so the word has to be there.
_FOLDERS = re.compile(
    r"(?:.*[_\-.])?(?:global_?step|steps?|checkpoint|ckpt|epochs?|iter(?:ation)?s?|updates?)[_\-=]?(\d{1,9})|(\d{1,9})"
)
_PLACES = re.compile(
    r"(checkpoints?|ckpts?|models?|weights|states?|state_dicts?|saved_models?|steps|epochs|snapshots?|saves?"
    r"|(lightning_)?logs|outputs?)"
)
_BEST = re.compile(r"(.*[_\-.])?best([_\-.].*)?")
_DATE = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])([0-2]\d|3[01])")


def step_in_name(path: Path) -> int | None:
    """The number that a file's name gives as its step (`1000.pth`, `checkpoint_e010000.pt`, `step_5_seed_0.pt`); 0 for
    `init`.

    None where there is none, or where the number is that of something else: a seed, a modulus, a date.
    """
    stem = path.name.lower().removesuffix(path.suffix.lower())
    if path.suffix.lower() == ".tar":  # epoch_10.pth.tar
        stem = re.sub(r"\.(pt|pth|ckpt)$", "", stem)
    if re.fullmatch(r"(.*[_\-.])?init(ial)?", stem):
        return 0
    if said := _SAID.findall(stem):
        return int(said[-1])
    match = _AT_THE_END.search(stem)
    if match is None or _OTHER.search(stem) or _DATE.fullmatch(match[1]):
        return None
    return int(match[1])


def says_epoch(path: Path) -> bool:
    """Whether the number in a file's name is that of an epoch.

    >>> says_epoch(Path("epoch_010.pt")), says_epoch(Path("step_010.pt")), says_epoch(Path("epoch=3-step=70.ckpt"))
    (True, False, False)
    """
    said = re.findall(r"(?<![a-z])(e|ep|epochs?|step|iter|iteration)[_\-=]?\d", path.name.lower())
    return bool(said) and all(word.startswith("e") for word in said)


def step_of_folder(name: str) -> int | None:
    """The step that the name of a folder gives to what is in it; None where there is none.

    >>> step_of_folder("checkpoint-1000"), step_of_folder("2000"), step_of_folder("exp_2")
    (1000, 2000, None)
    """
    if re.fullmatch(r"(.*[_\-.])?init(ial)?", name.lower()):
        return 0
    match = _FOLDERS.fullmatch(name.lower())
    return int(match[1] or match[2]) if match and not _DATE.fullmatch(name) else None


def is_final(path: Path) -> bool:
    """Whether a file is called the final one, or the last."""
    return re.search(r"(^|[_\-.])(final|last)([_\-.]|$)", path.stem.lower()) is not None


def is_best(name: str) -> bool:
    """Whether a file or folder is called the best: a copy that somebody's measure chose."""
    return _BEST.fullmatch(Path(name).stem.lower()) is not None


def is_end(name: str) -> bool:
    """Whether a file or folder is called final, last or best.

    >>> is_end("final.pt"), is_end("checkpoint-best"), is_end("checkpoint-1000")
    (True, True, False)
    """
    return is_final(Path(name)) or is_best(name)


def is_place(name: str) -> bool:
    """Whether a folder's name says only that weights are in it, and nothing of which.

    >>> is_place("checkpoints"), is_place("seed_3")
    (True, False)
    """
    return _PLACES.fullmatch(name.lower()) is not None
