"""From what a submission names to a directory on this machine, held until its run has ended."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gate.archive_names import ArchiveError
from gate.archives import extract, format_of_name
from gate.content_store import FILES, GIB, ContentStore
from gate.errors import CheckpointError
from gate.metrics import SOURCE_BYTES, SOURCE_LOOKUPS
from gate.roots import confine
from gate.settings import Settings
from gate.sources import (
    HubSource,
    StoreSource,
    UploadSource,
    is_uri,
    parse_source,
    require_allowed,
)
from gate.uploads import UploadStore
from workers.checkpoint.download import Meter, Note, download, retrying
from workers.checkpoint.hub import HubRepository
from workers.checkpoint.object_store import StoredCheckpoint
from workers.checkpoint.remote import (
    Remote,
    RemoteFile,
    SourceChangedError,
    SourceError,
    SourceUnreachableError,
    remote_key,
)

#: Where an archive is kept until it is extracted.
ARCHIVE = "archive"


@dataclass(frozen=True)
class Fetched:
    """A checkpoint on this machine; ``name`` is its path, or its URI with the exact revision."""

    directory: Path
    name: str


@contextmanager
def fetched(
    checkpoint: str, settings: Settings, note: Note, confined: bool = True
) -> Iterator[Fetched]:
    """The directory of a checkpoint, which stays as it is until the end.

    A path is taken where it is. An upload and what was fetched before are held in their store, and
    anything else is fetched into the cache first. Refusals of the checkpoint inside name the URI,
    and not the place in the cache.

    Args:
        checkpoint: path or URI, as it was recorded.
        settings: roots, allow-list, bounds.
        note: told how far it is.
        confined: apply roots and allow-list again. They may have changed since the submission.

    Raises:
        PathOutsideRootError: neither under a root nor under an allowed source.
        SourceError: not found, not to be read, unreachable, or changed meanwhile.
        NoRoomError: the cache or its disk has no room.
        GateError: an upload is not here; an archive was refused.
    """
    if not is_uri(checkpoint):
        directory = confine(checkpoint, settings.checkpoint_roots) if confined else Path(checkpoint)
        yield Fetched(directory, checkpoint)
        return
    source = parse_source(checkpoint)
    if confined:
        require_allowed(source, settings.allowed_sources)
    if isinstance(source, UploadSource):
        with UploadStore(settings).held(source) as directory, _named(str(source), directory):
            yield Fetched(directory, str(source))
        return
    remote = _open(source)
    with (
        _cached(remote, settings, note) as directory,
        _named(remote.uri, directory),
    ):
        yield Fetched(directory, remote.uri)


def _open(source: HubSource | StoreSource) -> Remote:
    return HubRepository(source) if isinstance(source, HubSource) else StoredCheckpoint(source)


@contextmanager
def _cached(remote: Remote, settings: Settings, note: Note) -> Iterator[Path]:
    """The files of a remote, from the cache or by fetching them into it."""

    def listed() -> list[RemoteFile]:
        try:
            return retrying(settings.fetch_attempts, partial(note, 0, 0))(remote.files)
        except SourceUnreachableError as error:
            raise _given_up(error) from error

    files = listed()
    total = sum(file.size for file in files)
    _require_size(remote, total, settings)
    key = remote_key(remote.uri, files)
    store = ContentStore(settings.cache_directory, int(settings.cache_gib * GIB))
    meter = Meter(total, note)
    waiting = partial(note, 0, total // 2**20, f"waiting for another worker to fetch {remote.uri}")
    archived = _archive_of(files)

    def make(part: Path) -> None:
        try:
            complete = part / (ARCHIVE if archived else FILES)
            download(remote, files, complete, settings.fetch_attempts, meter)
            if listed() != files:
                raise SourceChangedError(
                    f"{remote.uri} changed while it was fetched; submit it again when it is at rest"
                )
        except SourceUnreachableError as error:
            raise _given_up(error) from error
        except SourceChangedError:
            shutil.rmtree(part)
            raise
        if archived:
            _unpack(part, archived, settings)

    made: list[int] = []

    def make_and_count(part: Path) -> None:
        make(part)
        made.append(total)

    room = 2 * total if archived else total
    with store.holding(key, room, make_and_count, waiting, keep_part=True) as directory:
        scheme = remote.uri.partition(":")[0]
        SOURCE_LOOKUPS.labels(scheme, "miss" if made else "hit").inc()
        SOURCE_BYTES.labels(scheme).inc(sum(made))
        yield directory


def _archive_of(files: list[RemoteFile]) -> str | None:
    """The name of the archive, if it is one that is fetched."""
    (first, *more) = files
    try:
        format_of_name(first.name)
    except ArchiveError:
        return None
    return None if more else first.name


def _unpack(part: Path, name: str, settings: Settings) -> None:
    """Put the content of a fetched archive in its place, whatever was there."""
    shutil.rmtree(part / FILES)
    (part / FILES).mkdir()
    try:
        with (part / ARCHIVE / name).open("rb") as stream:
            extract(
                stream,
                format_of_name(name),
                part / FILES,
                int(settings.largest_checkpoint_gib * GIB),
            )
    except ArchiveError:
        shutil.rmtree(part)
        raise
    shutil.rmtree(part / ARCHIVE)


def _require_size(remote: Remote, total: int, settings: Settings) -> None:
    if total > settings.largest_checkpoint_gib * GIB:
        raise SourceError(
            f"{remote.uri} has {total / GIB:.1f} GiB, more than the "
            f"{settings.largest_checkpoint_gib:g} GiB that a checkpoint may have "
            "(GATE_LARGEST_CHECKPOINT_GIB)"
        )


def _given_up(error: SourceUnreachableError) -> SourceError:
    return SourceError(
        f"{error}; given up. What was fetched is kept: submit it again when the source answers"
    )


@contextmanager
def _named(name: str, directory: Path) -> Iterator[None]:
    """Lets refusals of files name the source, which a person knows, and not the store's path."""
    try:
        yield
    except CheckpointError as error:
        file = error.file.replace(str(directory), name)
        raise CheckpointError(file, error.reason.replace(str(directory), name)) from error
