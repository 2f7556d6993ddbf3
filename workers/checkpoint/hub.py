"""Repositories of a Hugging Face hub, read through huggingface_hub's client."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, cached_property

import httpx2
from huggingface_hub import HfApi, get_session, hf_hub_url, is_offline_mode, set_client_factory
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import ModelInfo
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    build_hf_headers,
    hf_raise_for_status,
)

from gate.sources import HubSource
from workers.checkpoint.remote import (
    RemoteFile,
    SourceChangedError,
    SourceError,
    SourceUnreachableError,
    is_wanted,
)

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
_PARTIAL = 206
_TRANSIENT = {408, 425, 429}
_CREDENTIALS = "set HF_TOKEN for the worker to a token that may read it"
#: The commands of the gate set HF_HUB_OFFLINE, so that no library looks a model up by its name.
#: Only what is fetched on purpose, here, passes all the same.
_fetching: ContextVar[bool] = ContextVar("fetching", default=False)


class HubRepository:
    """One repository at one commit."""

    def __init__(self, source: HubSource) -> None:
        self._source = source
        self._endpoint = os.environ.get("HF_ENDPOINT") or None

    @cached_property
    def _info(self) -> ModelInfo:
        with _asking(self._source):
            return HfApi(endpoint=self._endpoint).model_info(
                self._source.repository,
                revision=self._source.revision,
                files_metadata=True,
                timeout=READ_SECONDS,
            )

    @property
    def commit(self) -> str:
        """The commit that the revision names."""
        if not self._info.sha:
            raise SourceError(f"{self._source}: the hub names no commit for it")
        return self._info.sha

    @property
    def uri(self) -> str:
        """The URI with the commit in place of a branch or tag."""
        return str(HubSource(self._source.org, self._source.name, self.commit))

    def files(self) -> list[RemoteFile]:
        """The files to fetch; those of a commit never change."""
        found = []
        for sibling in self._info.siblings or []:
            if not is_wanted(sibling.rfilename):
                continue
            if sibling.size is None or not sibling.blob_id:
                raise SourceError(f"{self._source}: the hub does not describe {sibling.rfilename}")
            digest = ("sha256", sibling.lfs.sha256) if sibling.lfs else ("git", sibling.blob_id)
            found.append(RemoteFile(sibling.rfilename, sibling.size, sibling.blob_id, digest))
        return sorted(found, key=lambda file: file.name)

    def pieces(self, file: RemoteFile, start: int) -> Iterator[bytes]:
        """The content of a file from a byte on."""
        url = hf_hub_url(
            self._source.repository, file.name, revision=self.commit, endpoint=self._endpoint
        )
        headers = build_hf_headers() | {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        with _asking(self._source), get_session().stream("GET", url, headers=headers) as response:
            if response.is_error:
                response.read()
            hf_raise_for_status(response)
            skip = start if response.status_code != _PARTIAL else 0
            # As they come: pieces of a fixed size would lose what came before a break.
            for piece in response.iter_raw():
                if len(piece) > skip:
                    yield piece[skip:]
                skip = max(0, skip - len(piece))


@contextmanager
def _asking(source: HubSource) -> Iterator[None]:
    """Lets the requests inside through, and says in one sentence what goes wrong."""
    _install_client()
    # Not reset by its token: a generator may be closed in another context than it began in.
    _fetching.set(True)
    try:
        yield
    except GatedRepoError as error:
        raise SourceError(
            f"{source} is gated: ask for access on its page, then {_CREDENTIALS}"
        ) from error
    except RepositoryNotFoundError as error:
        raise SourceError(f"{source} was not found; if it is private, {_CREDENTIALS}") from error
    except RevisionNotFoundError as error:
        raise SourceError(f"{source} was not found: the repository has no such revision") from error
    except EntryNotFoundError as error:
        raise SourceChangedError(f"{source} lost a file while it was fetched") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in {401, 403}:
            raise SourceError(f"{source} may not be read; {_CREDENTIALS}") from error
        if status >= 500 or status in _TRANSIENT:
            raise SourceUnreachableError(f"{source}: the hub answers {status}") from error
        raise SourceError(f"{source}: the hub answers {status}") from error
    except (httpx2.TransportError, OSError) as error:
        raise SourceUnreachableError(
            f"{source}: {type(error).__name__}: {str(error) or 'no answer'}"
        ) from error
    except (httpx2.HTTPError, ValueError, KeyError, TypeError) as error:
        raise SourceError(
            f"{source}: the hub's answer makes no sense ({type(error).__name__}: {error})"
        ) from error
    finally:
        _fetching.set(False)


@cache
def _install_client() -> None:
    set_client_factory(_client)


def _client() -> httpx2.Client:
    return httpx2.Client(
        follow_redirects=True,
        timeout=httpx2.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
        event_hooks={"request": [_refuse_by_the_way]},
    )


def _refuse_by_the_way(request: httpx2.Request) -> None:
    if is_offline_mode() and not _fetching.get():
        raise OfflineModeIsEnabled(f"{request.url} is not asked: HF_HUB_OFFLINE is set")
