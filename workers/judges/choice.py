"""Which judge a run uses."""

from __future__ import annotations

from pathlib import Path

from checks.judgement import Judge
from gate.settings import Settings
from workers.checkpoint.packaged import build_packaged_base
from workers.judges.embedded import EmbeddedJudge
from workers.judges.endpoint import EndpointJudge
from workers.judges.ensemble import EnsembleJudge
from workers.judges.judge_file import (
    EMBEDDED,
    EndpointFile,
    EnsembleFile,
    JudgeFileError,
    member_path,
    read_judge_file,
)
from workers.judges.reading_cache import ReadingCache
from workers.judges.rubric import Rubric


def load_embedded_judge(settings: Settings) -> Judge:
    """The embedded judge on the packaged base, which is built if it is not there yet."""
    return EmbeddedJudge.load(build_packaged_base(settings.base_directory))


def load_judge(settings: Settings) -> Judge:
    """The judge that ``settings.judge`` names: ``embedded``, or the path of a judge file.

    Every file, rubric and key is looked at before anything is loaded.

    Raises:
        JudgeFileError: a judge file, a rubric or the variable of a key is wrong.
        JudgeError: the embedded judge cannot be loaded.
    """
    if settings.judge == EMBEDDED:
        return load_embedded_judge(settings)
    path = Path(settings.judge)
    file = read_judge_file(path)
    if isinstance(file, EndpointFile):
        return _endpoint(path, file, settings)
    endpoints = {
        member: _endpoint(place, member_file, settings)
        for member, (place, member_file) in ensemble_members(path, file).items()
    }
    members = [
        endpoints[member] if member in endpoints else load_embedded_judge(settings)
        for member in file.members
    ]
    return EnsembleJudge(file.name, members, file.combine)


def key_variables(settings: Settings) -> list[str]:
    """Names of the environment variables with the keys that the judge of the settings needs.

    Raises:
        JudgeFileError: a judge file is wrong.
    """
    if settings.judge == EMBEDDED:
        return []
    path = Path(settings.judge)
    file = read_judge_file(path)
    files = (
        [file]
        if isinstance(file, EndpointFile)
        else [member for _, member in ensemble_members(path, file).values()]
    )
    return [each.api_key_env for each in files if each.api_key_env]


def ensemble_members(path: Path, file: EnsembleFile) -> dict[str, tuple[Path, EndpointFile]]:
    """The judge files of an ensemble's members, by their names in its file.

    Raises:
        JudgeFileError: a member's file is wrong, is an ensemble, or is named twice.
    """
    found: dict[str, tuple[Path, EndpointFile]] = {}
    seen = set()
    for member in file.members:
        if member == EMBEDDED:
            continue
        place = member_path(path, member)
        content = read_judge_file(place)
        if isinstance(content, EnsembleFile):
            raise JudgeFileError(
                f"{path}: members: {place} is an ensemble; name its members here instead"
            )
        if place.resolve() in seen:
            raise JudgeFileError(f"{path}: members: {place} is named twice; name each judge once")
        seen.add(place.resolve())
        found[member] = (place, content)
    return found


def _endpoint(path: Path, file: EndpointFile, settings: Settings) -> Judge:
    cache = ReadingCache(settings.home / "judge-cache" / "readings.db")
    return EndpointJudge(file, Rubric.load(file.rubric, path), cache, file.api_key(path))
