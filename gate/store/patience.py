"""Waiting for a database that is away for a moment, where a run would be lost otherwise."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_delay,
    wait_random_exponential,
)

log = logging.getLogger(__name__)

_PATIENCE = "emgate_patience"
C = TypeVar("C")


def patient(engine: Engine, seconds: float) -> Engine:
    """The same database for stores that wait this long for it to come back."""
    return engine.execution_options(**{_PATIENCE: seconds})


def is_passing(error: BaseException) -> bool:
    """Whether a database error may be gone on the next try: no connection, or locked."""
    return isinstance(error, DBAPIError) and (
        error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)
    )


def waits_for_database(store: type[C]) -> type[C]:
    """Class decorator: public methods are tried again on an engine made by :func:`patient`.

    For stores each of whose methods is one transaction that may be repeated.
    """
    for name, method in list(vars(store).items()):
        if callable(method) and not name.startswith("_"):
            setattr(store, name, _waiting(method))
    return store


def _waiting(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        seconds = self._engine.get_execution_options().get(_PATIENCE)
        if not seconds:
            return method(self, *arguments, **named)
        trying = Retrying(
            retry=retry_if_exception(is_passing),
            stop=stop_after_delay(seconds),
            wait=wait_random_exponential(multiplier=0.1, max=2),
            before_sleep=_log_wait,
            reraise=True,
        )
        return trying(method, self, *arguments, **named)

    return call


def _log_wait(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning("the database does not answer, trying again: %s", error)
