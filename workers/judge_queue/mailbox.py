"""Where replies are left: a few keys in the broker, each of which ends by itself.

Of one request there are a list that takes the reply, a mark that shows who rates it now, and a mark
that nobody wants it any more. Nothing here has to last: what is lost is asked for again, and what
was rated is in the database before the next request goes out. Celery's own result backend is not
used: it holds a subscription for every task that is sent, and it makes exceptions from class names
that arrive.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import redis

from gate.errors import WrongUsageError

_CONNECT_SECONDS = 5
_ANSWER_SECONDS = 30


class Mailbox:
    """Replies and marks by the id of a request. Every method may raise ``redis.RedisError``."""

    def __init__(self, broker_url: str, keep_seconds: float) -> None:
        """Connects when it is first used.

        Args:
            broker_url: as in ``GATE_BROKER_URL``.
            keep_seconds: how long a reply that nobody takes stays.

        Raises:
            WrongUsageError: the broker does not speak the Redis protocol.
        """
        self._redis = redis.Redis.from_url(
            redis_url(broker_url),
            socket_connect_timeout=_CONNECT_SECONDS,
            socket_timeout=_ANSWER_SECONDS,
        )
        self._keep = max(1, round(keep_seconds))

    def hold(self, request_id: str, worker: str, seconds: float) -> bool:
        """Begin to rate; False if another worker does, or if nobody wants it any more."""
        if self._redis.exists(_over(request_id)):
            return False
        return bool(self._redis.set(_held(request_id), worker, nx=True, px=_ms(seconds)))

    def renew(self, request_id: str, worker: str, seconds: float) -> None:
        """Show that it is still being rated; also to a broker that was emptied meanwhile."""
        self._redis.set(_held(request_id), worker, px=_ms(seconds))

    def is_held(self, request_id: str) -> bool:
        """Whether a worker rates it now."""
        return bool(self._redis.exists(_held(request_id)))

    def leave(self, request_id: str, reply: bytes) -> None:
        """Leave the reply and let go of the request."""
        with self._redis.pipeline(transaction=True) as together:
            together.rpush(_reply(request_id), reply)
            together.expire(_reply(request_id), self._keep)
            together.delete(_held(request_id))
            together.execute()

    def wait(self, request_id: str, seconds: float) -> bytes | None:
        """The reply, if it comes within so many seconds."""
        found = self._redis.blpop([_reply(request_id)], timeout=seconds)
        if found is None:
            return None
        content = found[1]
        return content if isinstance(content, bytes) else content.encode()

    def close(self, request_id: str) -> None:
        """Mark it as over: a worker that gets it later, or again, does not rate it."""
        self._redis.set(_over(request_id), "", ex=self._keep)


def redis_url(broker_url: str) -> str:
    """The URL of the broker in the words of its client library.

    Raises:
        WrongUsageError: the broker does not speak the Redis protocol.
    """
    scheme = urlsplit(broker_url).scheme
    if scheme in {"redis", "rediss"}:
        return broker_url
    if scheme == "redis+socket":
        return "unix" + broker_url.removeprefix("redis+socket")
    raise WrongUsageError(
        f"GATE_JUDGING=queue needs a broker that speaks the Redis protocol, and GATE_BROKER_URL "
        f"begins with '{scheme}'; use redis://, rediss:// or redis+socket://"
    )


def _reply(request_id: str) -> str:
    return f"emgate:judging:{request_id}:reply"


def _held(request_id: str) -> str:
    return f"emgate:judging:{request_id}:held"


def _over(request_id: str) -> str:
    return f"emgate:judging:{request_id}:over"


def _ms(seconds: float) -> int:
    return max(1, round(1000 * seconds))
