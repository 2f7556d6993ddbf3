"""Hook between an MLflow model registry and em-gate: candidates are judged, passes are released.

Looks at the registry again and again, and brings each model into the state that the gate knows: the
version with the alias ``candidate`` is submitted, its tags say what became of it, and the alias
``released`` is moved to it once the verdict is a pass. All it remembers is in those tags, so it may
be killed at any moment and started twice, and nothing is missed while it is away. A receiver of
MLflow's webhooks would miss those events, and would have to open a port.

Run it where em-gate is installed, with ``pip install mlflow-skinny`` beside it. It reads
``MLFLOW_TRACKING_URI``, ``GATE_URL`` and ``GATE_API_KEY``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from gate.cli.app import ExitCode
from gate.cli.ending import exit_code
from gate.client.api import GateClient, view_of
from gate.client.errors import RefusedError
from gate.client.packing import packed
from gate.client.settings import ClientSettings
from gate.errors import GateError, WrongUsageError

log = logging.getLogger("em-gate.mlflow")

#: Refusals that say something of the hook's key, not of what it asked.
NOT_THE_VERSION = (HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS)
REQUEST, SUBMISSION = "emgate.request", "emgate.submission"
#: A person sets it to anything new to have a version judged once more.
AGAIN = "emgate.again"
#: What is written of a submission; a tag that no longer holds is deleted.
TOLD = ("state", "error", "outcome", "release", "released", "reasons", "digest", "report")
LONGEST_TAG = 4000


@dataclass(frozen=True)
class Wanted:
    """What the operator asks for. Nothing of it can be overridden by who writes the registry."""

    base: str | None = None
    policy: str = "default"
    battery: str | None = None
    within: str = ""
    upload: bool = False
    local_root: str = ""
    accept_waiver: bool = False
    candidate: str = "candidate"
    released: str = "released"

    def request(self, version: ModelVersion, location: str) -> dict[str, Any]:
        """The submission of a version whose files are at this place."""
        metadata = {"model": version.name, "version": str(version.version)}
        if version.run_id:
            metadata["mlflow_run"] = version.run_id
        return {
            "checkpoint": location,
            "base": self.base,
            "policy": self.policy,
            "battery": self.battery,
            "metadata": metadata,
        }


def place_of(uri: str, within: str = "") -> str:
    """Where the gate finds the files: a path of a ``file:`` URI, any other URI as it is."""
    parts = urlsplit(uri)
    place = unquote(parts.path) if parts.scheme == "file" else uri
    return f"{place.rstrip('/')}/{within.strip('/')}" if within else place


def key_of(request: Mapping[str, Any], again: str) -> str:
    """The same for the same version asked in the same way: one submission, however often."""
    content = json.dumps(["mlflow", request, again], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def told(
    submission: Mapping[str, Any], verdict: Mapping[str, Any] | None, url: str, accept_waiver: bool
) -> dict[str, str]:
    """What the tags of a version say, given its submission and the verdict, if there is one."""
    known = {"state": submission["state"], "error": submission.get("error") or ""}
    if verdict is not None:
        released = exit_code(verdict, accept_waiver) is ExitCode.PASS
        known |= {
            "outcome": verdict["outcome"],
            "release": verdict["release"],
            "released": "true" if released else "false",
            "reasons": "; ".join(verdict["reasons"]),
            "digest": verdict["digests"]["checkpoint"],
            "report": url + submission["links"]["report"],
        }
    return {f"emgate.{name}": value[:LONGEST_TAG] for name, value in known.items() if value}


@dataclass(frozen=True)
class Hook:
    """The registry on one side, the gate on the other."""

    registry: MlflowClient
    gate: GateClient
    wanted: Wanted

    def look(self) -> bool:
        """One pass over all models that have a candidate; whether all of them could be looked at.

        Raises:
            UnreachableError, BrokenGateError: the gate does not answer.
            RefusedError: it does not take the key.
            MlflowException: the registry does not list its models.
        """
        complete = True
        for model in self._models():
            number = model.aliases.get(self.wanted.candidate)
            if number is None:
                continue
            try:
                version = self.registry.get_model_version(model.name, str(number))
                self._bring(version, model.aliases.get(self.wanted.released))
            except MlflowException as error:
                log.error("%s %s: %s", model.name, number, error)
                complete = False
        return complete

    def _models(self) -> Iterator[RegisteredModel]:
        token = None
        while True:
            page = self.registry.search_registered_models(max_results=100, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _bring(self, version: ModelVersion, released: str | int | None) -> None:
        """Bring one version into the state that the gate knows."""
        try:
            submission = self._known(version) or self._submit(version)
        except WrongUsageError as error:
            if isinstance(error, RefusedError) and error.status in NOT_THE_VERSION:
                raise
            # The registry says why, and the other models are not held up.
            self._write(version, {"emgate.state": "refused", "emgate.error": str(error)})
            return
        decided = view_of(submission).state == "decided"
        verdict = self.gate.verdict(submission["id"]) if decided else None
        tags = told(submission, verdict, self.gate.url, self.wanted.accept_waiver)
        self._write(version, tags)
        holds = str(released) == str(version.version)
        if tags.get("emgate.released") == "true" and not holds:
            self.registry.set_registered_model_alias(
                version.name, self.wanted.released, str(version.version)
            )
            log.info("%s %s is released", version.name, version.version)
        elif tags.get("emgate.released") == "false" and holds:
            self.registry.delete_registered_model_alias(version.name, self.wanted.released)
            log.warning("%s %s is no longer released", version.name, version.version)

    def _asked(self, version: ModelVersion) -> tuple[str, dict[str, Any], str]:
        """Where the files of a version lie, what is to be asked about them, and under which key."""
        uri = self.registry.get_model_version_download_uri(version.name, str(version.version))
        request = self.wanted.request(version, place_of(uri, self.wanted.within))
        return uri, request, key_of(request, version.tags.get(AGAIN, ""))

    def _known(self, version: ModelVersion) -> dict[str, Any] | None:
        """The submission that the tags name, if it asked the same and the gate still has it."""
        _, _, key = self._asked(version)
        if version.tags.get(REQUEST) != key or SUBMISSION not in version.tags:
            return None
        try:
            return self.gate.submission(version.tags[SUBMISSION])
        except RefusedError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            return None

    def _submit(self, version: ModelVersion) -> dict[str, Any]:
        uri, request, key = self._asked(version)
        if self.wanted.upload:
            request["checkpoint"] = self._upload(uri)
        submission = self.gate.submit(request, key)
        # The id first: a key without it would be taken for a submission.
        for name, value in ((SUBMISSION, submission["id"]), (REQUEST, key)):
            self.registry.set_model_version_tag(version.name, str(version.version), name, value)
        log.info("%s %s is submission %s", version.name, version.version, submission["id"])
        return submission

    def _upload(self, uri: str) -> str:
        """Send the files of a version; from this machine only those under the local root.

        Else who writes the registry could have any file sent that this process may read.
        """
        if urlsplit(uri).scheme in ("", "file"):
            files, root = Path(place_of(uri)).resolve(), self.wanted.local_root
            if not root or not files.is_relative_to(Path(root).resolve()):
                raise WrongUsageError(f"{uri} is not under --local-root")
            return self._send(files / self.wanted.within)
        with tempfile.TemporaryDirectory(prefix="em-gate-mlflow-") as directory:
            try:
                files = Path(download_artifacts(artifact_uri=uri, dst_path=directory))
            except (MlflowException, OSError) as error:
                raise WrongUsageError(f"{uri} cannot be downloaded: {error}") from error
            return self._send(files / self.wanted.within)

    def _send(self, directory: Path) -> str:
        with packed(directory, lambda _: None) as archive:
            return self.gate.upload(archive.path, archive.sha256, lambda _: None)

    def _write(self, version: ModelVersion, tags: Mapping[str, str]) -> None:
        """Write the tags that differ, and delete those that no longer hold."""
        for name in (f"emgate.{part}" for part in TOLD):
            now, then = tags.get(name), version.tags.get(name)
            if now is None and then is not None:
                self.registry.delete_model_version_tag(version.name, str(version.version), name)
            elif now is not None and now != then:
                self.registry.set_model_version_tag(version.name, str(version.version), name, now)


def main() -> int:
    """Look once, or every so many seconds; 4 where one look could not be finished."""
    parser = argparse.ArgumentParser(description="Judge candidates of an MLflow registry.")
    parser.add_argument("--base", help="base model to compare with, a path or a URI")
    parser.add_argument("--policy", default=Wanted.policy, help="name of the policy")
    parser.add_argument("--battery", help="name of a battery, if not the policy's own")
    parser.add_argument("--within", default="", help="folder of the artifacts with the checkpoint")
    parser.add_argument("--upload", action="store_true", help="send the files to the gate")
    parser.add_argument("--local-root", default="", help="folder of this machine to upload from")
    parser.add_argument("--accept-waiver", action="store_true", help="a waiver releases too")
    parser.add_argument("--candidate", default=Wanted.candidate, help="alias that asks")
    parser.add_argument("--released", default=Wanted.released, help="alias that is given")
    parser.add_argument("--every", type=float, default=0, help="seconds; 0 looks once")
    options = vars(parser.parse_args())
    every = options.pop("every")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with GateClient(ClientSettings()) as gate:
        hook = Hook(MlflowClient(), gate, Wanted(**options))
        while True:
            done = _look(hook)
            if not every:
                return ExitCode.PASS if done else ExitCode.BROKEN
            time.sleep(every)


def _look(hook: Hook) -> bool:
    try:
        return hook.look()
    except (GateError, MlflowException, OSError) as error:
        log.error("%s", error)
        return False


if __name__ == "__main__":
    sys.exit(main())
