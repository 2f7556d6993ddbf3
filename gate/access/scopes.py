"""Which scope a call needs. Fails closed: what is not listed needs ``admin``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """What a key may do. ``admin`` includes the others; ``submit`` and ``read`` are apart."""

    SUBMIT = "submit"
    READ = "read"
    ADMIN = "admin"


def includes(held: Iterable[Scope], needed: Scope | None) -> bool:
    """Whether the scopes held suffice. ``None`` is needed for calls that are open to all.

    Law: holding more scopes never allows less.
    """
    if needed is None:
        return True
    held = set(held)
    return needed in held or Scope.ADMIN in held


@dataclass(frozen=True)
class Rule:
    """Calls of one kind.

    Attributes:
        methods: HTTP methods.
        path: matches the whole path; a group named ``target`` is what the call works on.
        scope: what is needed; None is open to all.
        action: the name of the call in the audit log; empty for calls that change nothing.
    """

    methods: frozenset[str]
    path: re.Pattern[str]
    scope: Scope | None
    action: str = ""


_READING = frozenset({"GET", "HEAD"})
_POST = frozenset({"POST"})
_DELETE = frozenset({"DELETE"})
_ID = r"(?P<target>[^/]+)"


def _rule(methods: frozenset[str], path: str, scope: Scope | None, action: str = "") -> Rule:
    return Rule(methods, re.compile(path), scope, action)


#: Every call that needs less than ``admin``, and those of ``admin`` whose action has a name.
RULES: tuple[Rule, ...] = (
    _rule(_READING, r"/|/health|/openapi\.json|/docs(?:/oauth2-redirect)?|/redoc", None),
    # A hook carries the signature of its sender, which its route verifies.
    _rule(_POST, r"/v1/hooks/(?P<target>[^/]+)", None, "hook.receive"),
    _rule(_READING, r"/metrics", Scope.READ),
    _rule(_READING, r"/v1/submissions", Scope.READ),
    _rule(_READING, rf"/v1/submissions/{_ID}", Scope.READ),
    _rule(
        _READING,
        rf"/v1/submissions/{_ID}/(?:events|samples|verdict|verdict\.junit\.xml|report|waivers)",
        Scope.READ,
    ),
    _rule(_READING, rf"/v1/checkpoints/{_ID}/verdicts", Scope.READ),
    _rule(_READING, r"/v1/(?:policies|batteries)(?:/[^/]+)?", Scope.READ),
    _rule(_POST, r"/v1/submissions", Scope.SUBMIT, "submission.create"),
    _rule(_POST, rf"/v1/submissions/{_ID}/cancel", Scope.SUBMIT, "submission.cancel"),
    _rule(_POST, rf"/v1/submissions/{_ID}/retry", Scope.SUBMIT, "submission.retry"),
    _rule(_POST, r"/v1/uploads", Scope.SUBMIT, "upload.create"),
    _rule(_READING, rf"/v1/uploads/{_ID}", Scope.SUBMIT),
    _rule(_POST, rf"/v1/submissions/{_ID}/waivers", Scope.ADMIN, "waiver.grant"),
    _rule(_DELETE, rf"/v1/waivers/{_ID}", Scope.ADMIN, "waiver.revoke"),
    _rule(_READING, r"/v1/audit", Scope.ADMIN),
)

_UNLISTED = Rule(frozenset(), re.compile(""), Scope.ADMIN)


def scope_needed(method: str, path: str) -> Scope | None:
    """The scope that a call needs; None if it is open to all, ``admin`` if it is unknown."""
    return _find(method, path)[0].scope


def changes_state(method: str) -> bool:
    """Whether a call may change something, and so belongs into the audit log."""
    return method not in _READING


def action_of(method: str, path: str) -> tuple[str, str | None]:
    """The name of a call in the audit log, and what it works on as far as the path says it."""
    rule, found = _find(method, path)
    target = found.groupdict().get("target") if found else None
    return rule.action or f"{method} {path}", target


def _find(method: str, path: str) -> tuple[Rule, re.Match[str] | None]:
    for rule in RULES:
        if method in rule.methods and (found := rule.path.fullmatch(path)):
            return rule, found
    return _UNLISTED, None
