"""One step of a pipeline: submit a checkpoint to em-gate, wait, and end as the verdict says.

Needs Python 3.10 and nothing else, so that any runner starts it at once. The GitHub action runs
this file, the GitLab template carries a copy of it, and other runners can call it. It is told what
to do by environment variables: docs/pipelines.md has the table.

Exit codes, as those of ``emgate submit --wait``: 0 pass, 1 fail, 2 wrong usage or refused,
3 inconclusive, 4 no verdict.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import os
import re
import signal
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

PASS, FAIL, USAGE, INCONCLUSIVE, BROKEN = range(5)
CODES = {"pass": PASS, "fail": FAIL, "inconclusive": INCONCLUSIVE}
WITHOUT_VERDICT = ("failed", "cancelled")
#: Answers that say "later", and how often and how long they are believed.
LATER = (429, 502, 503, 504)
ATTEMPTS = 5
LONGEST_PAUSE_SECONDS = 60.0
#: How long a gate may stay away while its verdict is waited for; a restart takes less.
AWAY_SECONDS = 300.0
#: Under the head of a table: numbers stand to the right.
RULE = ("---", "--:", "--:", "--:", "---")
#: GitHub shows ten annotations of a step.
ANNOTATIONS = 10


class StepError(Exception):
    """The step ends without a verdict; the message is for the log."""

    def __init__(self, message: str, code: int = BROKEN) -> None:
        super().__init__(message)
        self.code = code


class AwayError(StepError):
    """No gate answers, or it says that it is broken."""


@dataclass(frozen=True)
class Settings:
    """What the environment asks for. ``timeout`` is in seconds."""

    url: str
    key: str
    checkpoint: str
    upload: bool
    request: dict[str, Any]
    idempotency_key: str
    timeout: float
    fail_on_inconclusive: bool
    accept_waiver: bool
    cancel_on_interrupt: bool
    junit: Path | None
    report: Path | None

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Settings:
        """Read and check the environment before anything is sent."""

        def text(name: str, default: str = "") -> str:
            return environ.get(f"GATE_{name}", "").strip() or default

        def flag(name: str, default: str) -> bool:
            value = text(name, default).lower()
            if value not in ("true", "false"):
                raise StepError(f"GATE_{name} is '{value}': write true or false", USAGE)
            return value == "true"

        def file(name: str) -> Path | None:
            return _writable(f"GATE_{name}", Path(text(name))) if text(name) else None

        url, checkpoint = text("URL").rstrip("/"), text("CHECKPOINT")
        if not re.match(r"https?://[^/@]+(/[^@]*)?$", url):
            raise StepError(
                "GATE_URL has to be the http or https address of the gate, without a user", USAGE
            )
        if not checkpoint:
            raise StepError("GATE_CHECKPOINT has to name a checkpoint", USAGE)
        key = text("IDEMPOTENCY_KEY")
        if key and not re.fullmatch(r"[!-~]{1,255}", key):
            raise StepError(
                "GATE_IDEMPOTENCY_KEY may have 255 characters of ASCII, no space", USAGE
            )
        request = {
            "base": text("BASE") or None,
            "policy": text("POLICY", "default"),
            "battery": text("BATTERY") or None,
            "training_sample": _sample(text("TRAINING_SAMPLE")),
            "fresh": flag("FRESH", "false"),
            "metadata": {**origin(environ), **_pairs(text("METADATA"))},
        }
        return cls(
            url=url,
            key=text("API_KEY"),
            checkpoint=checkpoint,
            upload=flag("UPLOAD", "false"),
            request=request,
            idempotency_key=key or run_key(environ, checkpoint, request),
            timeout=_seconds("GATE_TIMEOUT", text("TIMEOUT", "3600")),
            fail_on_inconclusive=flag("FAIL_ON_INCONCLUSIVE", "true"),
            accept_waiver=flag("ACCEPT_WAIVER", "false"),
            cancel_on_interrupt=flag("CANCEL_ON_INTERRUPT", "true"),
            junit=file("JUNIT"),
            report=file("REPORT"),
        )


def origin(environ: Mapping[str, str]) -> dict[str, str]:
    """Metadata that says which commit and pipeline asked; the same when the job is run again."""
    named = {
        "git_sha": environ.get("GITHUB_SHA") or environ.get("CI_COMMIT_SHA"),
        "repository": environ.get("GITHUB_REPOSITORY") or environ.get("CI_PROJECT_PATH"),
        "pipeline_url": environ.get("CI_PIPELINE_URL"),
    }
    if environ.get("GITHUB_RUN_ID"):
        home = f"{environ.get('GITHUB_SERVER_URL', '')}/{environ.get('GITHUB_REPOSITORY', '')}"
        named["pipeline_url"] = f"{home}/actions/runs/{environ['GITHUB_RUN_ID']}"
    return {key: value for key, value in named.items() if value}


def run_key(environ: Mapping[str, str], checkpoint: str, request: Mapping[str, Any]) -> str:
    """One key per pipeline and request: a job that is run again takes up its submission.

    Outside a pipeline every call is a new submission.
    """
    run = environ.get("GITHUB_RUN_ID") or environ.get("CI_PIPELINE_ID") or os.urandom(16).hex()
    return _digest("run", run, checkpoint, json.dumps(request, sort_keys=True))


class Gate:
    """The API over HTTP. The key goes into one header and into no message."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self._headers = {"Accept": "application/json", "User-Agent": "em-gate-step"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        # urllib would carry the key along to wherever a redirect leads.
        self._opener = urllib.request.build_opener(_NoRedirect)

    def json(self, method: str, path: str, **more: Any) -> tuple[dict[str, Any], bool]:
        """An answer that is an object, and whether it repeats that to an earlier request."""
        content, headers = self.send(method, path, **more)
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise AwayError(f"what answers at {self.url} is not a gate")
        return answer, str(headers.get("Idempotency-Replayed")) == "true"

    def send(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        file: IO[bytes] | None = None,
        headers: dict[str, str] | None = None,
        timeout: float = 30.0,
    ) -> tuple[bytes, Mapping[str, str]]:
        """Send, and send again while the answer is "later".

        Every request that comes here may be sent twice: it reads, has a key, or ends something.
        """
        sent = {**self._headers, **(headers or {})}
        data: Any = file
        if body is not None:
            data = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        for attempt in range(1, ATTEMPTS + 1):
            pause = 0.5 * 2 ** (attempt - 1)
            if file is not None:
                file.seek(0)
            try:
                request = urllib.request.Request(self.url + path, data, sent, method=method)
                with self._opener.open(request, timeout=timeout) as answer:
                    return answer.read(), answer.headers
            except urllib.error.HTTPError as error:
                problem = _problem(error)
                asked = seconds_to_wait(error.code, error.headers.get("Retry-After"), problem)
                if asked is None or attempt == ATTEMPTS:
                    raise _refusal(self.url, error.code, problem) from None
                pause = max(pause, asked)
            except (ValueError, http.client.InvalidURL):
                # The text of the error could repeat a header, so it is not shown.
                raise StepError("GATE_URL or GATE_API_KEY is not usable", USAGE) from None
            except (OSError, http.client.HTTPException) as error:
                if attempt == ATTEMPTS:
                    why = getattr(error, "reason", error)
                    raise AwayError(f"no gate answers at {self.url}: {why}") from None
            time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def seconds_to_wait(
    status: int, retry_after: str | None, problem: Mapping[str, Any]
) -> float | None:
    """After how many seconds the same request may be answered better; None if it will not."""
    in_use = status == 409 and str(problem.get("type")).endswith("idempotency-key-in-use")
    if status not in LATER and not in_use:
        return None
    asked = retry_after or ""
    return min(float(asked), LONGEST_PAUSE_SECONDS) if asked.isdecimal() else 0.0


def submit(gate: Gate, settings: Settings) -> dict[str, Any]:
    """Submit, or find what an earlier run of this job has submitted.

    What that run left without a verdict (cancelled, or the gate broke) is submitted once more.
    """
    checkpoint = send_directory(gate, settings.checkpoint) if settings.upload else None
    body = {"checkpoint": checkpoint or settings.checkpoint, **settings.request}
    key = settings.idempotency_key
    headers = {"Idempotency-Key": key}
    submission, repeated = gate.json("POST", "/v1/submissions", body=body, headers=headers)
    while repeated:
        submission, _ = gate.json("GET", f"/v1/submissions/{submission['id']}")
        if submission["state"] not in WITHOUT_VERDICT:
            say(f"taking up submission {submission['id']}, which this pipeline made before")
            break
        say(f"submission {submission['id']} was {submission['state']}; submitting once more")
        headers = {"Idempotency-Key": _digest("retry", key, submission["id"])}
        place = f"/v1/submissions/{submission['id']}/retry"
        submission, repeated = gate.json("POST", place, headers=headers)
    return submission


def send_directory(gate: Gate, name: str) -> str:
    """Upload a directory as a tar; returns the URI to submit."""
    directory = Path(name)
    if not directory.is_dir():
        raise StepError(f"{name} is not a directory", USAGE)
    with tempfile.TemporaryFile() as archive:
        with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for path in sorted(directory.rglob("*")):
                if path.is_symlink() or not (path.is_file() or path.is_dir()):
                    raise StepError(f"{path} is a link or no plain file: give the file", USAGE)
                if path.is_file():
                    entry = tarfile.TarInfo(path.relative_to(directory).as_posix())
                    entry.size, entry.mode = path.stat().st_size, 0o644
                    with path.open("rb") as content:
                        tar.addfile(entry, content)
        size = archive.tell()
        archive.seek(0)
        digest = hashlib.sha256()
        for block in iter(lambda: archive.read(1 << 20), b""):
            digest.update(block)
        headers = {
            "Content-Type": "application/x-tar",
            "Content-Length": str(size),
            "Content-Digest": f"sha-256=:{base64.b64encode(digest.digest()).decode()}:",
        }
        answer, _ = gate.json("POST", "/v1/uploads", file=archive, headers=headers, timeout=600.0)
    return str(answer["checkpoint"])


def wait(gate: Gate, submission: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Ask until the submission has ended; says each new state once."""
    place, shown = f"/v1/submissions/{submission['id']}", ""
    deadline = time.monotonic() + timeout
    seen, pause = time.monotonic(), 1.0
    while submission["state"] not in ("decided", *WITHOUT_VERDICT):
        if submission["state"] != shown:
            shown = submission["state"]
            say(shown)
        if time.monotonic() >= deadline:
            raise StepError(
                f"submission {submission['id']} had not ended after {timeout:g} s; it goes on, and "
                "this job takes it up when it is run again"
            )
        time.sleep(pause)
        pause = min(pause * 1.3, 10.0)
        try:
            submission, _ = gate.json("GET", place)
            seen = time.monotonic()
        except AwayError:
            if time.monotonic() - seen > AWAY_SECONDS:
                raise
    return submission


def exit_code(verdict: Mapping[str, Any], settings: Settings) -> int:
    """What the job ends with; an outcome that this file does not know is never a pass."""
    if settings.accept_waiver and verdict.get("waivers") and verdict.get("released") is True:
        return PASS
    outcome, allowed = verdict.get("outcome"), verdict.get("release") == "allow"
    if outcome == "inconclusive" and allowed and not settings.fail_on_inconclusive:
        return PASS
    return CODES.get(str(outcome), BROKEN)


def rows(verdict: Mapping[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """Check, metric, interval, threshold and outcome of each condition."""
    table = []
    for finding in verdict["findings"]:
        condition, measured = finding["condition"], finding["measurement"] or {}
        side = "at_most" if condition.get("at_most") is not None else "at_least"
        threshold = f"{side.replace('_', ' ')} {condition[side]:+.2f}"
        metric, interval, estimate = "-", "-", measured.get("estimate")
        if estimate:
            metric = f"{estimate['value']:+.3f} {measured['unit']}"
            interval = f"[{estimate['lower']:+.3f}, {estimate['upper']:+.3f}]"
        outcome = finding["outcome"] + ("" if condition["required"] else " (not required)")
        table.append((condition["check"], metric, interval, threshold, outcome))
    return table


def notes(submission: Mapping[str, Any], verdict: Mapping[str, Any]) -> list[str]:
    """Reasons, waivers in force, and whose verdict it is."""
    lines = [str(reason) for reason in verdict["reasons"]]
    for waiver in verdict.get("waivers") or []:
        lines.append(f"waived until {waiver['expires_at']}: {waiver['reason']}")
    if submission.get("standing_since"):
        lines.append(f"the verdict is that of submission {submission['standing_since']}")
    return lines


def show(
    environ: Mapping[str, str],
    gate: Gate,
    submission: Mapping[str, Any],
    verdict: Mapping[str, Any],
    code: int,
) -> None:
    """The verdict in the log, as annotations, on the summary page and as outputs."""
    passed = verdict["outcome"] == "pass"
    heading = str(verdict["outcome"]).upper()
    if code == PASS and not passed:
        heading += ", released all the same"
    table, lines = rows(verdict), notes(submission, verdict)
    names = ("check", "metric", "interval", "threshold", "outcome")
    widths = [max(map(len, column)) for column in zip(names, *table, strict=True)]
    for row in (names, *table):
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)), "|")
    for line in lines:
        say(line, "-")
    say(f"{heading}: submission {submission['id']} under {verdict['policy']}")
    level = "notice" if passed else "warning" if code == PASS else "error"
    said = [f"under {verdict['policy']}"] if passed else lines
    annotate(environ, level, f"em-gate: {heading}", said)
    summary(
        environ,
        f"### em-gate: {markdown(heading)}",
        f"{markdown(submission['checkpoint'])} under {markdown(verdict['policy'])}, "
        f"{markdown(verdict['scope'])}",
        "\n".join(
            f"| {' | '.join(cells)} |"
            for cells in (names, RULE, *([*map(markdown, row)] for row in table))
        ),
        "\n".join(f"- {markdown(line)}" for line in lines),
        f"Submission {markdown(submission['id'])}, content "
        f"{markdown(verdict['digests']['checkpoint'])}",
    )
    outputs(
        environ,
        outcome=verdict["outcome"],
        release=verdict["release"],
        released="true" if code == PASS else "false",
        report_url=gate.url + submission["links"]["report"],
        checkpoint_digest=verdict["digests"]["checkpoint"],
    )


def annotate(environ: Mapping[str, str], level: str, title: str, lines: list[str]) -> None:
    """Annotations of GitHub, one a line; what they say cannot be a command of its own."""
    if environ.get("GITHUB_ACTIONS") != "true":
        return
    title = _escape(title).replace(":", "%3A").replace(",", "%2C")
    for line in lines[:ANNOTATIONS]:
        print(f"::{level} title={title}::{_escape(line)}", flush=True)


def summary(environ: Mapping[str, str], *paragraphs: str) -> None:
    """Markdown for the page of GitHub's run, and for ``GATE_SUMMARY`` anywhere."""
    for name in ("GITHUB_STEP_SUMMARY", "GATE_SUMMARY"):
        if environ.get(name):
            _append(environ[name], "\n\n".join(filter(None, paragraphs)) + "\n\n")


def outputs(environ: Mapping[str, str], **values: Any) -> None:
    """Outputs of GitHub's step (``report-url``), and ``GATE_REPORT_URL=…`` in ``GATE_DOTENV``."""
    for name, value in values.items():
        line = plain(str(value))
        if environ.get("GITHUB_OUTPUT"):
            _append(environ["GITHUB_OUTPUT"], f"{name.replace('_', '-')}={line}\n")
        if environ.get("GATE_DOTENV"):
            _append(environ["GATE_DOTENV"], f"GATE_{name.upper()}={line}\n")


def say(text: str, mark: str = "em-gate:") -> None:
    """A line of the log. The mark in front keeps other people's words from being commands."""
    print(f"{mark} {plain(text)}".rstrip(), flush=True)


def plain(text: str) -> str:
    """One line without control characters, and without the runner's older form of commands."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line.replace("##[", "## [")


def markdown(text: str) -> str:
    """Text that stands in a table of Markdown and is no markup."""
    return re.sub(r"[^\w .,:+=%/-]|_", lambda m: f"&#{ord(m.group())};", plain(text))


def _escape(text: str) -> str:
    return plain(text).replace("%", "%25")


def _append(name: str, text: str) -> None:
    with open(name, "a", encoding="utf-8") as file:
        file.write(text)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _problem(error: urllib.error.HTTPError) -> dict[str, Any]:
    try:
        content = json.loads(error.read())
    except (OSError, ValueError):
        content = None
    return content if isinstance(content, dict) else {"detail": str(error.reason)}


def _refusal(url: str, status: int, problem: Mapping[str, Any]) -> StepError:
    detail = str(problem.get("detail") or problem.get("title"))
    if status == 401:
        return StepError(f"{detail} (set GATE_API_KEY to a key of this gate)", USAGE)
    if 300 <= status < 400:
        return StepError(f"{url} sends elsewhere: set GATE_URL to the API itself")
    if 400 <= status < 500 and status not in LATER:
        return StepError(detail, USAGE)
    return AwayError(f"the gate at {url} answered {status}: {detail}")


def _seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise StepError(f"{name} is '{text}': write a number of seconds above 0", USAGE)
    return seconds


def _pairs(text: str) -> dict[str, str]:
    pairs = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        key, equals, value = line.partition("=")
        if not key or not equals:
            raise StepError(f"GATE_METADATA: '{line}' is not KEY=VALUE", USAGE)
        pairs[key.strip()] = value.strip()
    return pairs


def _sample(name: str) -> str | None:
    try:
        return Path(name).read_text(encoding="utf-8") if name else None
    except (OSError, UnicodeDecodeError) as error:
        raise StepError(f"GATE_TRAINING_SAMPLE: {name} cannot be read: {error}", USAGE) from None


def _writable(name: str, path: Path) -> Path:
    """Found out before anything is submitted."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _append(str(path), "")
    except OSError as error:
        raise StepError(f"{name}: {path} cannot be written: {error}", USAGE) from None
    path.unlink()
    return path


def run(environ: Mapping[str, str]) -> int:
    """The whole step; returns the exit code."""
    settings = Settings.of(environ)
    gate = Gate(settings.url, settings.key)
    submission = submit(gate, settings)
    try:
        outputs(environ, submission=submission["id"])
        say(f"submission {submission['id']} of {submission['checkpoint']}")
        ended = wait(gate, submission, settings.timeout)
    except KeyboardInterrupt:
        if not settings.cancel_on_interrupt:
            raise
        try:
            gate.send("POST", f"/v1/submissions/{submission['id']}/cancel")
        except StepError as error:
            raise StepError(f"interrupted; not cancelled, because {error}") from None
        raise StepError(f"interrupted; submission {submission['id']} is cancelled") from None
    place = f"/v1/submissions/{ended['id']}"
    if ended["state"] in WITHOUT_VERDICT:
        why = f": {ended['error']}" if ended["error"] else ""
        raise StepError(f"submission {ended['id']} was {ended['state']}{why}; there is no verdict")
    verdict, _ = gate.json("GET", f"{place}/verdict")
    code = exit_code(verdict, settings)
    for file, part in ((settings.junit, "verdict.junit.xml"), (settings.report, "report")):
        if file:
            file.write_bytes(gate.send("GET", f"{place}/{part}", headers={"Accept": "*/*"})[0])
    show(environ, gate, ended, verdict, code)
    return code


def main() -> NoReturn:
    """Run the step; whatever goes wrong is one sentence and a code that is never a pass."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A log that cannot show a character is no reason to end without a verdict.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        sys.exit(run(os.environ))
    except StepError as error:
        message, code = str(error), error.code
    except KeyboardInterrupt:
        message, code = "interrupted; what was submitted goes on", BROKEN
    except OSError as error:
        message, code = str(error), BROKEN
    except Exception as error:  # noqa: BLE001 (left alone it ends with 1, which says "fail")
        message, code = f"the answer is not one of em-gate's: {error!r}", BROKEN
    say(message)
    annotate(os.environ, "error", "em-gate: no verdict", [message])
    summary(os.environ, "### em-gate: no verdict", markdown(message))
    outputs(os.environ, outcome="none", release="block", released="false")
    sys.exit(code)


if __name__ == "__main__":
    main()
