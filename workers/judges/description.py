"""What the judge in force is, without loading it, asking it or needing its key."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from gate.settings import Settings
from workers.checkpoint.packaged import build_packaged_base
from workers.judges import artefact
from workers.judges.choice import ensemble_members
from workers.judges.endpoint import endpoint_digest
from workers.judges.ensemble import ensemble_digest
from workers.judges.judge_file import EMBEDDED, EndpointFile, read_judge_file
from workers.judges.rubric import Rubric


class RubricDescription(BaseModel):
    """A rubric by name and content."""

    model_config = ConfigDict(frozen=True)

    id: str
    version: int
    licence: str
    source: str
    digest: str


class JudgeDescription(BaseModel):
    """A judge; fields that its kind does not have are None or empty.

    ``sends_to`` is where questions and answers go: None means that nothing leaves the machine.
    ``key_set`` says whether the variable of the key is set; the key itself is nowhere.
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    name: str
    digest: str
    sends_to: str | None = None
    model: str | None = None
    logprobs: bool | str | None = None
    api_key_env: str | None = None
    key_set: bool | None = None
    rubric: RubricDescription | None = None
    combine: str | None = None
    members: tuple[JudgeDescription, ...] = ()


def describe_judge(settings: Settings) -> JudgeDescription:
    """Describe the judge that ``settings.judge`` names; its digest is that of the loaded judge.

    Raises:
        JudgeFileError: a judge file or a rubric is wrong.
        OSError: the embedded judge's files cannot be read.
    """
    if settings.judge == EMBEDDED:
        return _embedded(settings)
    path = Path(settings.judge)
    file = read_judge_file(path)
    if isinstance(file, EndpointFile):
        return _endpoint(path, file)
    endpoints = ensemble_members(path, file)
    members = tuple(
        _endpoint(*endpoints[member]) if member in endpoints else _embedded(settings)
        for member in file.members
    )
    return JudgeDescription(
        kind=file.kind,
        name=file.name,
        digest=ensemble_digest([member.digest for member in members], file.combine),
        combine=file.combine,
        members=members,
    )


def _embedded(settings: Settings) -> JudgeDescription:
    base = build_packaged_base(settings.base_directory)
    digest = artefact.digest(artefact.ARTEFACT, base)
    return JudgeDescription(kind=EMBEDDED, name=EMBEDDED, digest=digest)


def _endpoint(path: Path, file: EndpointFile) -> JudgeDescription:
    rubric = Rubric.load(file.rubric, path)
    return JudgeDescription(
        kind=file.kind,
        name=file.name,
        digest=endpoint_digest(file, rubric),
        sends_to=file.url,
        model=file.model,
        logprobs=file.logprobs,
        api_key_env=file.api_key_env,
        key_set=bool(os.environ.get(file.api_key_env, "").strip()) if file.api_key_env else None,
        rubric=RubricDescription(
            id=rubric.id,
            version=rubric.version,
            licence=rubric.licence,
            source=rubric.source,
            digest=rubric.digest,
        ),
    )
