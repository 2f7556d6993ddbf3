"""Turn tokens: a user turn cut into words, signs, line breaks and marks such as tags."""

from __future__ import annotations

import re
from dataclasses import dataclass

_MONTH = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"
#: Tags, labels, hashtags, commands and dates: each is one token, whatever is inside.
_MARK = "|".join(
    (
        r"\[[^\[\]\n]{1,60}\]",
        r"<<?[^<>\n]{1,60}>>?",
        r"\{\{?[^{}\n]{1,60}\}\}?",
        r"\|[^|\s](?:[^|\n]{0,38}[^|\s])?\|",
        r"(?<!\w)[A-Z][A-Z0-9_-]{1,30}(?: [A-Z0-9_-]{2,30}){0,3}:",
        r"(?<![\w#])[#@!/$]\w{2,40}\b",
        r"(?<!\w)\d{4}-\d{2}-\d{2}(?!\w)",
        rf"(?<!\w)\d{{1,2}}\.? {_MONTH} \d{{4}}",
        rf"(?<!\w){_MONTH} \d{{1,2}}, \d{{4}}",
    )
)
_TOKEN = re.compile(rf"(?P<mark>{_MARK})|(?P<line>\n\s*)|(?P<word>\w+(?:['’-]\w+)*)|[^\w\s]")
_KEY = re.compile(r"[=: ]")


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a turn; ``kind`` is mark, line, word or sign, ``end`` the character after it."""

    text: str
    kind: str
    begin: int
    end: int

    @property
    def shape(self) -> str:
        """What stays the same when only a value in it varies, as in ``[id=17]``."""
        if self.kind == "mark" and (key := _KEY.search(self.text[:-1])):
            return self.text[: key.end()] + self.text[-1]
        return re.sub(r"\d+", "0", self.text)


@dataclass(frozen=True, slots=True)
class Turn:
    """A user turn with its tokens; blanks belong to none."""

    text: str
    tokens: tuple[Token, ...]

    @classmethod
    def of(cls, text: str) -> Turn:
        """Cut a turn into tokens."""
        found = _TOKEN.finditer(text)
        return cls(
            text, tuple(Token(m[0], m.lastgroup or "sign", m.start(), m.end()) for m in found)
        )
