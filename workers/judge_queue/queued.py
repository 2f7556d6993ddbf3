"""A judge that is elsewhere: it sends exchanges to the judging workers and waits for them."""

from __future__ import annotations

import copy
import logging
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Protocol, Self

import redis
from kombu.exceptions import OperationalError
from pydantic import ValidationError

from checks.judgement import Exchange, Judge, JudgeError, Judgement, JudgeUnavailableError
from gate.errors import GateError
from gate.metrics import JUDGING_WAIT_SECONDS
from gate.settings import Settings
from workers.engine.client import no_interruption
from workers.judge_queue.mailbox import Mailbox
from workers.judge_queue.messages import REPLY, AnotherJudge, Asked, Failed, Rated, Reply
from workers.judge_queue.waiting import Step, Terms, Waiting
from workers.judges.description import describe_judge

log = logging.getLogger(__name__)

#: How long one look for the reply takes, in seconds; also how soon a cancelled run stops to wait.
LOOK_SECONDS = 1.0
#: What to do about a queue that nobody listens on.
REMEDY = "start one: emgate worker --queues judging"

#: What is raised while the broker is away.
_AWAY = (redis.RedisError, OperationalError, OSError)


class Broker(Protocol):
    """Where requests go."""

    def ask(self, request: Asked, expires: float) -> bool:
        """Send a request, to be forgotten after so many seconds; False if it was not taken."""
        ...

    def waiting(self) -> int:
        """How many requests wait that no worker has taken; raises when it cannot be asked."""
        ...


class QueuedJudge:
    """Implements ``checks.judgement.Judge`` with the judge of the judging workers.

    It knows the digest of the judge that it wants, from the judge file, and needs no key.
    """

    def __init__(
        self,
        name: str,
        digest: str,
        broker: Broker,
        mailbox: Mailbox,
        terms: Terms,
        clock: Callable[[], float] = time.monotonic,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._name = name
        self._digest = digest
        self._broker = broker
        self._mailbox = mailbox
        self._terms = terms
        self._clock = clock
        self._look_seconds = look_seconds
        self._require: Callable[[], None] = no_interruption

    @property
    def name(self) -> str:
        """The name of the judge that is asked for."""
        return self._name

    @property
    def digest(self) -> str:
        """The digest of the judge that is asked for."""
        return self._digest

    def under(self, require: Callable[[], None]) -> Self:
        """This judge for one run, which stops to wait as soon as ``require`` raises."""
        mine = copy.copy(self)
        mine._require = require
        return mine

    def judge(self, exchanges: Sequence[Exchange], fresh: bool = False) -> list[Judgement]:
        """Have the exchanges rated, in order.

        Raises:
            JudgeUnavailableError: no judging worker took them, or the judge does not answer now.
            JudgeError: the judge cannot rate them, or the workers have another judge.
            GateError: the judging worker's settings are wrong.
            RunInterruptedError: the run that waits was stopped.
        """
        if not exchanges:
            return []
        request = Asked(
            id=uuid.uuid4().hex,
            judge_name=self._name,
            judge_digest=self._digest,
            exchanges=tuple(exchanges),
            fresh=fresh,
        )
        try:
            with JUDGING_WAIT_SECONDS.time():
                reply = self._reply_to(request)
        finally:
            self._close(request)
        return self._judgements(request, reply)

    def _reply_to(self, request: Asked) -> Reply:
        waiting = Waiting(self._terms, self._clock())
        held = queued = False
        broken: Exception | None = None
        while True:
            self._require()
            step = waiting.next(self._clock(), held, queued)
            if step is Step.GIVE_UP:
                raise JudgeUnavailableError(self._why_given_up(waiting, broken))
            if step is Step.SEND and self._broker.ask(request, self._terms.unheld):
                waiting.sent(self._clock())
            held = queued = False
            try:
                content = self._mailbox.wait(request.id, self._look_seconds)
                if content is not None:
                    return _read(content)
                held = self._mailbox.is_held(request.id)
                queued = not held and self._broker.waiting() > 0
                broken = None
            except _AWAY as error:
                if broken is None:
                    log.warning("the broker does not answer while answers are judged: %s", error)
                broken = error
                time.sleep(self._look_seconds)

    def _why_given_up(self, waiting: Waiting, broken: Exception | None) -> str:
        if waiting.deaths >= self._terms.deaths:
            return f"{waiting.deaths} judging workers died while they rated these answers"
        waited = f"within {self._terms.unheld:g} s"
        if broken is not None:
            return f"no judging worker could be asked {waited}: the broker is away ({broken})"
        return f"no judging worker took the answers {waited}; {REMEDY}"

    def _judgements(self, request: Asked, reply: Reply) -> list[Judgement]:
        match reply:
            case Rated(judgements=judgements):
                if len(judgements) != len(request.exchanges):
                    raise JudgeError(
                        f"a judging worker sent {len(judgements)} ratings of "
                        f"{len(request.exchanges)} answers"
                    )
                return list(judgements)
            case AnotherJudge(judge_name=name, judge_digest=digest):
                raise JudgeError(
                    f"a judging worker has judge '{name}' ({digest}), and this run needs "
                    f"'{self._name}' ({self._digest}); give both the same GATE_JUDGE"
                )
            case Failed(why="unavailable", message=message):
                raise JudgeUnavailableError(message)
            case Failed(why="gate", message=message):
                raise GateError(f"the judging worker: {message}")
            case Failed(message=message):
                raise JudgeError(message)

    def _close(self, request: Asked) -> None:
        try:
            self._mailbox.close(request.id)
        except redis.RedisError as error:
            # It costs a rating that nobody waits for, and no more.
            log.info("request %s stays open: %s", request.id, error)


def queued_judge(settings: Settings, broker: Broker) -> QueuedJudge:
    """The judge of the settings, at the judging workers.

    Raises:
        JudgeFileError: a judge file or a rubric is wrong.
        WrongUsageError: the broker does not speak the Redis protocol.
    """
    described = describe_judge(settings)
    return QueuedJudge(
        described.name, described.digest, broker, mailbox_of(settings), terms_of(settings)
    )


def mailbox_of(settings: Settings) -> Mailbox:
    """The mailbox of the settings' broker.

    Raises:
        WrongUsageError: the broker does not speak the Redis protocol.
    """
    return Mailbox(settings.broker_url, settings.judging_wait_seconds)


def terms_of(settings: Settings) -> Terms:
    """How long a request waits: a judging worker is taken for dead like any other worker."""
    return Terms(
        unheld=settings.judging_wait_seconds,
        lost=settings.sweep_seconds,
        # Its mark has ended by then; a broker that was emptied gets it back at the next heartbeat.
        silent=2 * min(settings.heartbeat_seconds, settings.lease_seconds / 3),
        deaths=settings.attempts,
    )


def under(judge: Judge, require: Callable[[], None]) -> Judge:
    """A judge for one run: one that waits for others stops to wait when the run has to stop."""
    return judge.under(require) if isinstance(judge, QueuedJudge) else judge


def _read(content: bytes) -> Reply:
    try:
        return REPLY.validate_json(content)
    except ValidationError as error:
        what = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in what["loc"])
        raise JudgeError(
            f"what came back from judging is no reply: {place}: {what['msg']}"
        ) from error
