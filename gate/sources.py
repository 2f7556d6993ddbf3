"""Where a checkpoint may come from: the grammar of source URIs and the allow-list over them.

Pure functions of text. A URI is refused unless every part of it is plain: no user info, port,
query, fragment, escape, backslash, wildcard, ``.`` or ``..``, so that what is compared with the
allow-list is what every library behind it understands, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gate.errors import PathOutsideRootError, WrongUsageError

HUB = "hf"
UPLOAD = "upload"
#: Object stores by scheme. Schemes of fsspec that reach this machine, other files or other schemes
#: (``file``, ``memory``, ``zip``, ``simplecache`` …) are no sources and cannot be allowed.
OBJECT_STORES = ("s3", "gs", "abfs", "oss")
#: What a name ends in that is an archive rather than a prefix.
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip")
#: Branch that a hub URI without a revision means.
DEFAULT_REVISION = "main"
LONGEST_URI = 2048

_URI = re.compile(r"[^/]*:/")
_SCHEME = re.compile(r"(?P<scheme>[a-z][a-z0-9]*)://(?P<rest>.*)")
_SEGMENT = re.compile(r"[A-Za-z0-9._=+,@~-]{1,255}")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_HUB_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?")
_REVISION = re.compile(
    r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}(?:/[A-Za-z0-9_][A-Za-z0-9._-]{0,127}){0,7}"
)
_UPLOAD = re.compile(r"sha256:[0-9a-f]{64}")


class SourceSyntaxError(WrongUsageError):
    """A source URI is not one that the gate can fetch from."""


class SourceNotAllowedError(PathOutsideRootError):
    """A source URI is under no entry of the allow-list."""


@dataclass(frozen=True)
class HubSource:
    """A repository of a Hugging Face hub at a revision (branch, tag or commit)."""

    org: str
    name: str
    revision: str

    @property
    def repository(self) -> str:
        """The id by which the hub knows it."""
        return f"{self.org}/{self.name}"

    @property
    def place(self) -> tuple[str, ...]:
        """What the allow-list is compared with."""
        return (HUB, self.org, self.name)

    def __str__(self) -> str:
        return f"{HUB}://{self.repository}@{self.revision}"


@dataclass(frozen=True)
class StoreSource:
    """A prefix of an object store, or an archive in it."""

    scheme: str
    bucket: str
    path: tuple[str, ...]

    @property
    def key(self) -> str:
        """``bucket/path`` as fsspec takes it."""
        return "/".join((self.bucket, *self.path))

    @property
    def is_archive(self) -> bool:
        """Whether it names an archive, to be fetched and extracted."""
        return self.path[-1].lower().endswith(ARCHIVES)

    @property
    def place(self) -> tuple[str, ...]:
        """What the allow-list is compared with."""
        return (self.scheme, self.bucket, *self.path)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.key}"


@dataclass(frozen=True)
class UploadSource:
    """What was uploaded before, by the SHA-256 of the archive."""

    digest: str

    def __str__(self) -> str:
        return f"{UPLOAD}://{self.digest}"


Source = HubSource | StoreSource | UploadSource


def is_uri(text: str) -> bool:
    """Whether a submitted checkpoint is meant as a URI rather than as a path."""
    return bool(_URI.match(text))


def parse_source(uri: str) -> Source:
    """Read a source URI.

    Laws: ``str`` of the result is read back as the same source; no part of a result is empty, ``.``
    or ``..``, or holds a character that a library could read in another way.

    Raises:
        SourceSyntaxError: says what is wrong with it.
    """
    if len(uri) > LONGEST_URI:
        raise SourceSyntaxError(f"a source URI is at most {LONGEST_URI} characters long")
    found = _SCHEME.fullmatch(uri)
    if not found:
        raise SourceSyntaxError(f"{uri!r} is not a source URI: it starts with no scheme and ://")
    scheme, rest = found["scheme"], found["rest"]
    if scheme == UPLOAD:
        return _upload(uri, rest)
    if scheme == HUB:
        return _hub(uri, rest)
    if scheme in OBJECT_STORES:
        bucket, path = _store(uri, rest)
        if not path:
            raise SourceSyntaxError(
                f"{uri} names a whole bucket; name a prefix or an archive in it"
            )
        return StoreSource(scheme, bucket, path)
    known = ", ".join(f"{name}://" for name in (HUB, *OBJECT_STORES, UPLOAD))
    raise SourceSyntaxError(f"{scheme}:// is not a source of checkpoints; known are {known}")


def parse_rule(rule: str) -> tuple[str, ...]:
    """Read an entry of the allow-list: ``hf://org[/name]`` or ``s3://bucket[/prefix]``.

    Raises:
        SourceSyntaxError: it is not one; schemes that reach this machine's own files never are.
    """
    found = _SCHEME.fullmatch(rule)
    scheme, rest = (found["scheme"], found["rest"]) if found else ("", "")
    if scheme == HUB:
        names = rest.removesuffix("/").split("/")
        if len(names) > 2 or not all(_is_hub_name(name) for name in names):
            raise SourceSyntaxError(f"{rule!r} is not hf://org or hf://org/name")
        return (HUB, *names)
    if scheme in OBJECT_STORES:
        bucket, path = _store(rule, rest)
        return (scheme, bucket, *path)
    known = ", ".join(f"{name}://" for name in (HUB, *OBJECT_STORES))
    raise SourceSyntaxError(f"{rule!r} cannot be allowed as a source; an entry starts with {known}")


def is_allowed(source: HubSource | StoreSource, rules: Iterable[str]) -> bool:
    """Whether an entry of the allow-list covers the source.

    Laws: no entries cover nothing; an entry covers whole names only, so ``s3://models`` does not
    cover ``s3://models-of-others``.
    """
    return any(source.place[: len(place)] == place for place in map(parse_rule, rules))


def require_allowed(source: Source, rules: Sequence[str]) -> None:
    """Refuse a source that the operator did not allow; uploads always are.

    Raises:
        SourceNotAllowedError: names the source and the setting.
    """
    if isinstance(source, UploadSource) or is_allowed(source, rules):
        return
    allowed = ", ".join(rules) or "none"
    raise SourceNotAllowedError(
        f"{source} is under no allowed source ({allowed}); an operator allows sources with "
        "GATE_ALLOWED_SOURCES"
    )


def _upload(uri: str, rest: str) -> UploadSource:
    if not _UPLOAD.fullmatch(rest):
        raise SourceSyntaxError(f"{uri!r} is not upload://sha256: and 64 hexadecimal digits")
    return UploadSource(rest)


def _hub(uri: str, rest: str) -> HubSource:
    repository, at, revision = rest.partition("@")
    org, slash, name = repository.partition("/")
    if not slash or not _is_hub_name(org) or not _is_hub_name(name):
        raise SourceSyntaxError(f"{uri!r} is not hf://org/name@revision")
    revision = revision if at else DEFAULT_REVISION
    if not _REVISION.fullmatch(revision) or ".." in revision:
        raise SourceSyntaxError(f"{uri!r} has no usable revision: a branch, tag or commit")
    return HubSource(org, name, revision)


def _is_hub_name(name: str) -> bool:
    return bool(_HUB_NAME.fullmatch(name)) and "--" not in name and ".." not in name


def _store(uri: str, rest: str) -> tuple[str, tuple[str, ...]]:
    """Bucket and path of an object store's URI; one slash at the end is let go."""
    bucket, slash, path = rest.partition("/")
    if "@" in bucket or ":" in bucket:
        raise SourceSyntaxError(f"{uri!r} has user info or a port, which a source must not have")
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        raise SourceSyntaxError(f"{uri!r} has no usable bucket: lower-case letters, digits, '-._'")
    path = path.removesuffix("/")
    if not path:
        if slash and rest.endswith("//"):
            raise SourceSyntaxError(f"{uri!r} has an empty part in its path")
        return bucket, ()
    segments = tuple(path.split("/"))
    for segment in segments:
        if not segment or segment in {".", ".."}:
            raise SourceSyntaxError(f"{uri!r} has an empty part, '.' or '..' in its path")
        if not _SEGMENT.fullmatch(segment):
            raise SourceSyntaxError(
                f"{uri!r} has a part with a character other than letters, digits and ._=+,@~-"
            )
    return bucket, segments
