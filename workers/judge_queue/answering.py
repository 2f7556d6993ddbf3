"""What a judging worker does with one request: check, hold, rate, and leave the reply."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import redis

from checks.judgement import Judge, JudgeError, JudgeUnavailableError
from gate.errors import GateError
from gate.metrics import JUDGING_REPLIES
from workers.judge_queue.mailbox import Mailbox
from workers.judge_queue.messages import LONGEST_MESSAGE, AnotherJudge, Asked, Failed, Rated, Reply

log = logging.getLogger(__name__)

#: Pause between two tries to leave a reply with a broker that is away, in seconds.
_AGAIN_SECONDS = 1.0


def reply_to(asked: Asked, load_judge: Callable[[], Judge]) -> Reply:
    """The judgements, or why there are none."""
    try:
        judge = load_judge()
        if judge.digest != asked.judge_digest:
            return AnotherJudge(judge_name=judge.name, judge_digest=judge.digest)
        return Rated(judgements=tuple(judge.judge(asked.exchanges, fresh=asked.fresh)))
    except JudgeUnavailableError as error:
        return _failed("unavailable", str(error))
    except JudgeError as error:
        return _failed("judge", str(error))
    except GateError as error:
        return _failed("gate", str(error))
    except Exception as error:
        log.exception("the judge broke")
        return _failed("judge", f"the judge broke: {type(error).__name__}: {error}")


class Desk:
    """Takes requests of one judging worker."""

    def __init__(
        self,
        mailbox: Mailbox,
        load_judge: Callable[[], Judge],
        worker: str,
        lease_seconds: float,
        heartbeat_seconds: float,
        patience_seconds: float,
    ) -> None:
        """Wire a desk.

        Args:
            mailbox: where replies are left.
            load_judge: called when the first request is there.
            worker: a name for the marks of this worker.
            lease_seconds: how long a mark lasts without a heartbeat.
            heartbeat_seconds: how often a mark is renewed.
            patience_seconds: how long a broker that is away is waited for with a reply.
        """
        self._mailbox = mailbox
        self._load_judge = load_judge
        self._worker = worker
        self._lease = lease_seconds
        self._heartbeat = min(heartbeat_seconds, lease_seconds / 3)
        self._patience = patience_seconds

    def take(self, asked: Asked) -> bool:
        """Rate one request and leave the reply; False if another worker does, or it is over."""
        try:
            if not self._mailbox.hold(asked.id, self._worker, self._lease):
                log.info("request %s is over, or another worker has it", asked.id)
                return False
        except redis.RedisError as error:
            # The run sends it again when the broker is back.
            log.warning("request %s is not taken, the broker is away: %s", asked.id, error)
            return False
        with self._held(asked.id):
            reply = reply_to(asked, self._load_judge)
        arrived = self._leave(asked.id, reply.model_dump_json().encode())
        JUDGING_REPLIES.labels(reply.kind if arrived else "lost").inc()
        return arrived

    @contextmanager
    def _held(self, request_id: str) -> Iterator[None]:
        """Show that the request is being rated, for as long as the context lasts."""
        ended = threading.Event()

        def renew() -> None:
            while not ended.wait(self._heartbeat):
                try:
                    self._mailbox.renew(request_id, self._worker, self._lease)
                except redis.RedisError as error:
                    log.warning("the mark of request %s is not renewed: %s", request_id, error)

        thread = threading.Thread(target=renew, name="judging-heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _leave(self, request_id: str, reply: bytes) -> bool:
        until = time.monotonic() + self._patience
        while True:
            try:
                self._mailbox.leave(request_id, reply)
                return True
            except redis.RedisError as error:
                if time.monotonic() >= until:
                    log.warning("the reply to request %s is lost: %s", request_id, error)
                    return False
            time.sleep(_AGAIN_SECONDS)


def _failed(why: Literal["unavailable", "judge", "gate"], message: str) -> Failed:
    # What a judge says may hold half a surrogate pair, which no JSON can.
    whole = message.encode("utf-8", "replace").decode()
    return Failed(why=why, message=whole[:LONGEST_MESSAGE])
