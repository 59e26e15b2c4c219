"""Checkpoints on the Hugging Face Hub, where a person names one: `hf://OWNER/NAME[@REVISION][/FOLDER]`.

What is there is listed first, and of it weights and configurations alone are downloaded, into the Hub's own cache,
from the commit that was listed. Nothing of them is run. Without a revision, branches or tags called `step1000`,
`step2000`, … are a series, as some projects keep their training.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from interp.errors import InputError
from interp.figures import as_size
from interp.interchange.importing.beside import CONFIGURATIONS, PAIRS
from interp.interchange.importing.folders import DEEPEST, ENDINGS
from interp.interchange.importing.kinds import OTHER_ENDINGS
from interp.interchange.importing.series import belongs_to_trainer, run_of
from interp.interchange.importing.shards import INDEX
from interp.interchange.importing.source import printable
from interp.interchange.importing.steps import step_in_name
from interp.machine import first_line

SCHEME = "hf://"
LARGEST_DOWNLOAD = 4_000_000_000  # bytes
LARGEST_BESIDE = 64_000_000  # of one configuration
MOST_FILES = 5_000
MOST_REVISIONS = 1_000
_ADDRESS = re.compile(
    r"hf://(?P<repository>[\w.-]{1,96}/[\w.-]{1,96})(@(?P<revision>[^/\s@]{1,200}))?(?P<folder>(/[^/\s]{1,200}){0,6})/?"
)
_STEPS = re.compile(r"(?i)(step|checkpoint|ckpt|epoch|iter|iteration)[-_=]?\d{1,9}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TAG = re.compile(r"[\w-]{1,200}")  # of a content, after which the client calls its file
_SAME_STEM = {"pytorch_model": "model"}  # two names of one network, in the formats of Hugging Face

Say = Callable[[str], None]


class Wanted(NamedTuple):
    """A file that will be downloaded."""

    name: str
    size: int


@dataclass(frozen=True)
class Downloaded:
    """The files of one commit, in the Hub's cache; the step where its revision is called after one."""

    folder: Path
    files: frozenset[Path]
    repository: str
    revision: str
    commit: str
    step: int | None = None

    @property
    def title(self) -> str:
        """What run.json says of where it is from."""
        return f"{SCHEME}{self.repository}@{self.revision}, commit {self.commit}"


def is_on_the_hub(source: str | Path) -> bool:
    """Whether a source is an address on the Hub; a path made of one has lost a slash.

    >>> is_on_the_hub("hf://a/b"), is_on_the_hub(Path("hf://a/b")), is_on_the_hub("a/b")
    (True, True, False)
    """
    return str(source).startswith("hf:/")


def download(address: str, say: Say | None = None) -> list[Downloaded]:
    """The weights and configurations at an address, downloaded; one entry for each commit, in the order of steps.

    `say` is told what will be downloaded, and how far it is. Raises InputError where there is no such repository or
    revision, where no weights are in it, several runs, or more than 4 GB, and where the Hub cannot be reached.
    """
    address = re.sub(r"^hf:/+", SCHEME, address)  # a path made of it has lost a slash
    match = _ADDRESS.fullmatch(address)
    if match is None or ".." in address:
        raise InputError(f"{address!r} is no address on the Hub, expected {SCHEME}OWNER/NAME[@REVISION][/FOLDER]")
    hub = _Hub(match["repository"], match["folder"].strip("/"))
    commits = []
    with _complaints(address):
        for revision in [match["revision"]] if match["revision"] else hub.revisions():
            commit, listed = hub.listed(revision)
            step = step_in_name(Path(revision)) if match["revision"] is None and _STEPS.fullmatch(revision) else None
            commits.append((revision, commit, step, _wanted(address, listed, hub.folder)))
    files = [file for *_, wanted in commits for file in wanted]
    total = sum(file.size for file in files)
    if total > LARGEST_DOWNLOAD or len(files) > MOST_FILES:
        raise InputError(
            f"{address} would download {len(files):,} files, {as_size(total)}, more than {MOST_FILES:,} files or "
            f"{as_size(LARGEST_DOWNLOAD)}; name one revision or folder, {SCHEME}{hub.repository}@REVISION/FOLDER, "
            f"or download what you want (hf download {hub.repository} --include …) and import that folder"
        )
    say = say or (lambda _: None)
    if len(commits) > 1:
        say(f"{address}: {len(commits):,} revisions called steps are the series; @main would name that of main")
    say(f"{address}: {len(files):,} files, {as_size(total)}, into the cache of the Hub")
    found, done = [], 0
    with _complaints(address):
        for revision, commit, step, wanted in commits:
            paths = []
            for file in wanted:
                paths.append(hub.fetched(file, commit))
                done += file.size
            say(f"{revision}: {len(wanted):,} files, {as_size(done)} of {as_size(total)}")
            snapshot = paths[0].parents[len(PurePosixPath(wanted[0].name).parts) - 1]
            folder = snapshot / hub.folder if hub.folder else snapshot
            found.append(Downloaded(folder, frozenset(paths), hub.repository, revision, commit, step))
    return sorted(found, key=lambda one: one.step if one.step is not None else -1)


class _Hub:
    """One repository, as the client of Hugging Face sees it. HF_ENDPOINT may name another server."""

    def __init__(self, repository: str, folder: str) -> None:
        try:
            import huggingface_hub
        except ImportError:
            raise InputError(f"{SCHEME} needs huggingface_hub; install it with: pip install 'interp[hub]'") from None
        self.client = huggingface_hub
        self.repository, self.folder = repository, folder
        self.endpoint = os.environ.get("HF_ENDPOINT")
        self.api = huggingface_hub.HfApi(endpoint=self.endpoint)

    def revisions(self) -> list[str]:
        """The branches or tags that are called steps, in their order, where there are two at least; else main."""
        refs = self.api.list_repo_refs(self.repository)
        names = {ref.name for ref in [*refs.branches, *refs.tags] if _STEPS.fullmatch(ref.name)}
        if len(names) > MOST_REVISIONS:
            raise InputError(
                f"{SCHEME}{self.repository} has {len(names):,} revisions called steps; name one: @REVISION"
            )
        return sorted(names, key=lambda name: step_in_name(Path(name)) or 0) if len(names) > 1 else ["main"]

    def listed(self, revision: str) -> tuple[str, list[Wanted]]:
        """The commit of a revision, and the files in it."""
        info = self.api.model_info(self.repository, revision=revision, files_metadata=True)
        if not isinstance(info.sha, str) or not _COMMIT.fullmatch(info.sha):
            raise InputError(f"the Hub gave {printable(info.sha, 60)!r} as a commit, expected 40 hexadecimal digits")
        found = [Wanted(file.rfilename, file.size or 0) for file in info.siblings or []]
        for name, size in found:
            if not isinstance(name, str) or type(size) is not int or size < 0:
                raise InputError(
                    f"the Hub listed {printable(name, 60)!r} of {printable(size, 60)} bytes, expected files and sizes"
                )
        return info.sha, found

    def fetched(self, file: Wanted, commit: str) -> Path:
        """A file, in the cache."""
        from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

        shown = not are_progress_bars_disabled()
        disable_progress_bars()  # a bar for each of hundreds of files tells nobody how far it is
        try:
            with _told_plainly(file.name, commit):
                path = self.client.hf_hub_download(self.repository, file.name, revision=commit, endpoint=self.endpoint)
        finally:
            if shown:
                enable_progress_bars()
        if (size := os.path.getsize(path)) != file.size:
            raise InputError(f"{file.name!r} has {size:,} bytes, and {file.size:,} were listed; try again")
        return Path(path)


@contextlib.contextmanager
def _told_plainly(name: str, commit: str) -> Iterator[None]:
    """Meanwhile the client, which calls files of its cache after what a server says of them, is told of tags of
    contents and of commits that are words: a server could have it write outside its cache otherwise."""
    from huggingface_hub import file_download

    ask = file_download.get_hf_file_metadata

    def asked(*arguments: Any, **named: Any) -> Any:
        told = ask(*arguments, **named)
        if told.etag is not None and not _TAG.fullmatch(told.etag):
            raise InputError(f"the tag of {name!r} on the Hub is {printable(told.etag, 60)!r}, which is no plain word")
        if told.commit_hash not in (None, commit):
            raise InputError(f"{name!r} on the Hub is of commit {printable(told.commit_hash, 60)!r}, not {commit}")
        return told

    file_download.get_hf_file_metadata = asked
    try:
        yield
    finally:
        file_download.get_hf_file_metadata = ask


@contextlib.contextmanager
def _complaints(address: str) -> Iterator[None]:
    """Whatever the Hub, its client or the network refuse, in one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # the client's own kinds, and those of its transport
        raise InputError(f"{address}: {_why(error)}") from None


def _why(error: Exception) -> str:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "GatedRepoError" in kinds:
        return "its owner lets in only who asked: ask on its page, and log in: hf auth login"
    if "RevisionNotFoundError" in kinds:
        return "there is no such revision of it on the Hub"
    if "RepositoryNotFoundError" in kinds:
        return "there is no such repository on the Hub, or it is private: hf auth login"
    if kinds & {"OfflineModeIsEnabled", "ConnectError", "ConnectionError", "ConnectTimeout", "LocalEntryNotFoundError"}:
        return (
            "the Hub cannot be reached from here; download it elsewhere (hf download OWNER/NAME --local-dir FOLDER) "
            "and import that folder"
        )
    return f"the Hub said: {first_line(error)}"


# ---- what is downloaded ----------------------------------------------------------------------------------------------


def _wanted(address: str, listed: Sequence[Wanted], folder: str) -> list[Wanted]:
    """Of the files that are listed, the weights under a folder, safetensors before other formats of one name, and the
    configurations and training pairs in their folders and above."""
    names = [file for file in listed if _is_plain(file.name)]
    inside = [file for file in names if not folder or file.name.startswith(folder + "/")]
    depth = len(PurePosixPath(folder).parts) if folder else 0
    reached = [file for file in inside if len(PurePosixPath(file.name).parts) - depth <= DEEPEST + 1]
    weights = _of_one_format([file for file in reached if _is_weight(file.name)])
    if not weights:
        weights = [file for file in reached if file.name.endswith(".npy")]
    if not weights:
        others = sorted({PurePosixPath(file.name).suffix.lower() for file in inside} & set(OTHER_ENDINGS))
        said = "".join(f"; its {ending} is {OTHER_ENDINGS[ending][0]}" for ending in others[:3])
        raise InputError(
            f"{address} has no weights that are read here ({', '.join(ENDINGS)}) among its {len(inside):,} files{said}"
        )
    below = {file.name: PurePosixPath(file.name).parts[depth:-1] for file in weights}
    runs = sorted({run_of(parts, numbered=True) for parts in below.values()})
    if len(runs) > 1 and () not in runs:
        base = f"{address.rstrip('/')}/"
        shown = ", ".join(printable(base + "/".join(run), 120) for run in runs[:8])
        more = f" and {len(runs) - 8} more" if len(runs) > 8 else ""
        raise InputError(
            f"{address} holds {len(runs)} runs: {shown}{more}; name one of them, each is imported by itself"
        )
    places = {parent for file in weights for parent in PurePosixPath(file.name).parents}
    beside = [
        file
        for file in names
        if PurePosixPath(file.name).parent in places and _is_beside(file) and file.size <= LARGEST_BESIDE
    ]
    return [*weights, *beside]


def _is_plain(name: str) -> bool:
    parts = name.split("/")
    return name.isprintable() and "\\" not in name and not any(part in ("", ".", "..") for part in parts)


def _is_weight(name: str) -> bool:
    file = PurePosixPath(name)
    # Whether a `.tar` is a checkpoint its first bytes tell, and these are not here.
    return ((file.suffix in ENDINGS and file.suffix != ".tar") or name.endswith(INDEX)) and not belongs_to_trainer(
        file.name
    )


def _of_one_format(files: Sequence[Wanted]) -> list[Wanted]:
    """Without those that lie beside safetensors of the same name, whole or in parts."""

    def stem(name: str) -> str:
        bare = re.sub(r"-\d{5}-of-\d{5}$", "", PurePosixPath(name.removesuffix(INDEX)).stem)
        return str(PurePosixPath(name).parent / _SAME_STEM.get(bare, bare))

    safe = {stem(file.name) for file in files if ".safetensors" in file.name}
    return [file for file in files if ".safetensors" in file.name or stem(file.name) not in safe]


def _is_beside(file: Wanted) -> bool:
    name = PurePosixPath(file.name)
    known = {*CONFIGURATIONS, "trainer_state.json", "steps.npy", "metrics.jsonl"}
    return (
        name.name in known
        or (name.stem in PAIRS and name.suffix in (".json", ".npy"))
        or (name.suffix == ".json" and name.name.startswith("config_"))
    )


def provenance(found: Sequence[Downloaded]) -> list[dict[str, Any]]:
    """Where an import is from, in JSON values: repository, revision and commit."""
    return [{"repository": one.repository, "revision": one.revision, "commit": one.commit} for one in found]
