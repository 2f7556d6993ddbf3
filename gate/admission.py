"""Which checkpoint a request may name: a directory under a root, or a URI that is allowed."""

from __future__ import annotations

from gate.errors import WrongUsageError
from gate.roots import confine
from gate.settings import Settings
from gate.sources import UploadSource, is_uri, parse_source, require_allowed
from gate.uploads import UploadStore


def admit(checkpoint: str, settings: Settings) -> str:
    """The real path or the canonical URI of a submitted checkpoint or base.

    An upload counts as used now, so that it is still there when its turn comes.

    Raises:
        PathOutsideRootError: neither under a root nor under an allowed source.
        WrongUsageError: no directory, no source URI, or an upload that is not here.
    """
    if not is_uri(checkpoint):
        return str(confine(checkpoint, settings.checkpoint_roots))
    source = parse_source(checkpoint)
    require_allowed(source, settings.allowed_sources)
    if isinstance(source, UploadSource) and UploadStore(settings).find(source) is None:
        raise WrongUsageError(f"{source} is not here; upload it with POST /v1/uploads first")
    return str(source)
