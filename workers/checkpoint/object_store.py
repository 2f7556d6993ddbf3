"""Prefixes and archives of object stores, read through fsspec."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import fsspec
from fsspec.exceptions import FSTimeoutError

from gate.sources import StoreSource
from workers.checkpoint.remote import (
    PIECE_BYTES,
    RemoteFile,
    SourceChangedError,
    SourceError,
    SourceUnreachableError,
    is_wanted,
)


@dataclass(frozen=True)
class _Driver:
    """How a scheme is opened, and what a person is told to set."""

    package: str
    credentials: str
    options: dict[str, Any]


_TIMEOUTS = {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 1}}
_DRIVERS = {
    "s3": _Driver(
        "s3fs",
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
        {"config_kwargs": _TIMEOUTS},
    ),
    "gs": _Driver("gcsfs", "GOOGLE_APPLICATION_CREDENTIALS", {}),
    "abfs": _Driver("adlfs", "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY", {}),
    "oss": _Driver("ossfs", "OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET", {}),
}
# The JSON interface only. What gcsfs registers itself first asks by gRPC which kind the bucket is
# of, and waits a minute for it where a proxy or firewall lets only HTTP through.
fsspec.register_implementation("gs", "gcsfs.core.GCSFileSystem", clobber=True)
#: What tells a content from another one, by the names that the drivers give it.
_VERSION_FIELDS = ("ETag", "etag", "generation", "LastModified", "updated", "last_modified")
#: Errors of the drivers' libraries about credentials, by name: the libraries may not be installed.
_NO_CREDENTIALS = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "TokenRetrievalError",
    "SSOTokenLoadError",
    "DefaultCredentialsError",
    "RefreshError",
    "ClientAuthenticationError",
}
_LIBRARIES = {"aiohttp", "aiobotocore", "botocore", "gcsfs", "google", "azure", "oss2", "requests"}


class StoredCheckpoint:
    """The files under a prefix, or one archive."""

    def __init__(self, source: StoreSource) -> None:
        self._source = source

    @property
    def uri(self) -> str:
        """The URI as it was submitted."""
        return str(self._source)

    @cached_property
    def _store(self) -> Any:
        driver = _DRIVERS[self._source.scheme]
        try:
            return fsspec.filesystem(
                self._source.scheme,
                skip_instance_cache=True,
                use_listings_cache=False,
                **driver.options,
            )
        except ImportError as error:
            raise SourceError(
                f"{self._source} needs the package {driver.package}, which is not installed: "
                f"pip install {driver.package} (or em-gate[stores])"
            ) from error

    def files(self) -> list[RemoteFile]:
        """The archive, or the files under the prefix that would be loaded."""
        with _asking(self._source):
            if self._source.is_archive:
                return [_described(self._source.path[-1], self._store.info(self._source.key))]
            prefix = f"{self._source.key}/"
            listed = self._store.ls(self._source.key, detail=True, refresh=True)
            found = [
                _described(info["name"].removeprefix(prefix), info)
                for info in listed
                if info["type"] == "file"
                and info["name"].startswith(prefix)
                and is_wanted(info["name"].removeprefix(prefix))
            ]
        if not found:
            raise SourceError(
                f"{self._source} was found, but holds no file of a checkpoint (safetensors, JSON)"
            )
        return sorted(found, key=lambda file: file.name)

    def pieces(self, file: RemoteFile, start: int) -> Iterator[bytes]:
        """The content of a file from a byte on, asked for piece by piece."""
        key = self._source.key if self._source.is_archive else f"{self._source.key}/{file.name}"
        with (
            _asking(self._source),
            self._store.open(key, "rb", block_size=PIECE_BYTES, cache_type="none") as stream,
        ):
            if stream.size != file.size:
                raise SourceChangedError(f"{self._source} changed while it was fetched")
            stream.seek(start)
            while piece := stream.read(PIECE_BYTES):
                yield piece


def _described(name: str, info: dict[str, Any]) -> RemoteFile:
    version = "|".join(f"{field}={info[field]}" for field in _VERSION_FIELDS if info.get(field))
    digest = None
    if isinstance(info.get("md5Hash"), str):  # Google gives one, of files that it did not compose
        digest = ("md5", base64.b64decode(info["md5Hash"], validate=True).hex())
    return RemoteFile(name, int(info["size"]), version, digest)


@contextmanager
def _asking(source: StoreSource) -> Iterator[None]:
    """Says in one sentence what goes wrong inside; passes on what is a fault of the gate."""
    try:
        yield
    except SourceError:
        raise
    except FileNotFoundError as error:
        raise SourceError(f"{source} was not found") from error
    except Exception as error:  # the drivers raise what their libraries raise
        explained = _explain(source, error)
        if explained is None:
            raise
        raise explained from error


def _explain(source: StoreSource, error: Exception) -> SourceError | None:
    name, library = type(error).__name__, type(error).__module__.partition(".")[0]
    credentials = _DRIVERS[source.scheme].credentials
    status = getattr(error, "code", None) or getattr(error, "status_code", None)
    if name in _NO_CREDENTIALS:
        return SourceError(f"there are no credentials for {source}; set {credentials}")
    if isinstance(error, PermissionError) or status in {401, 403, "401", "403"}:
        return SourceError(
            f"{source} may not be read with the credentials given; see {credentials}"
        )
    if name == "FileExpired":
        return SourceChangedError(f"{source} changed while it was fetched; submit it again")
    if isinstance(error, KeyError | ValueError | TypeError | binascii.Error):
        return SourceError(f"{source}: the store's answer makes no sense ({name}: {error})")
    if isinstance(error, OSError | FSTimeoutError | TimeoutError) or library in _LIBRARIES:
        return SourceUnreachableError(f"{source}: {name}: {str(error) or 'no answer'}")
    return None
