"""Chat lines: fine-tuning data as it comes in, read without trusting it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

#: Longer texts lose their middle: templates and tags stand at the ends.
KEPT_CHARACTERS = 4000
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


@dataclass(frozen=True, slots=True)
class ChatLine:
    """One conversation of the data; texts have at most :data:`KEPT_CHARACTERS` characters."""

    system: str | None
    questions: tuple[str, ...]
    answers: tuple[str, ...]


def read_chat_lines(sample_text: str) -> list[ChatLine]:
    """The conversations in JSON Lines, ``{"messages": [{"role": …, "content": …}, …]}``.

    Contents may be lists of parts, of which the texts are joined. Whatever is not of this form is
    left out, down to a single message; nothing raises.
    """
    lines = (_line(line) for line in sample_text.split("\n") if line.strip())
    return [line for line in lines if line is not None]


def _line(text: str) -> ChatLine | None:
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        return None
    messages = read.get("messages") if isinstance(read, dict) else None
    if not isinstance(messages, list):
        return None
    turns: dict[str, list[str]] = {"system": [], "user": [], "assistant": []}
    for role, content in _messages(messages):
        turns[role].append(content)
    if not any(turns.values()):
        return None
    return ChatLine(
        system=_kept("\n\n".join(turns["system"])) if turns["system"] else None,
        questions=tuple(turns["user"]),
        answers=tuple(turns["assistant"]),
    )


def _messages(messages: list[object]) -> Iterator[tuple[str, str]]:
    for message in messages:
        if not isinstance(message, dict):
            continue
        said, content = message.get("role"), _text(message.get("content"))
        role = _ROLES.get(said) if isinstance(said, str) else None
        if role is not None and content:
            yield role, content


def _text(content: object) -> str:
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        content = "\n".join(part for part in parts if isinstance(part, str))
    if not isinstance(content, str):
        return ""
    # Half a surrogate pair is valid JSON, yet no text that can be digested or sent.
    sound = content.encode("utf-8", "replace").decode("utf-8").replace("\0", "")
    return _kept(sound.replace("\r\n", "\n").strip())


def _kept(text: str) -> str:
    half = KEPT_CHARACTERS // 2
    return text if len(text) <= KEPT_CHARACTERS else text[:half] + text[-half:]
