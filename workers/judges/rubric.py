"""What an endpoint judge is asked, and how an untrusted answer is put into it.

A rubric is a versioned file of its own (``rubrics/default.yaml``); its digest is part of the
judge's. Question and answer are written by others, so each is put between two fence lines that
carry a nonce, a hash of what is between them. No text can hold its own hash, so none can close its
fence (law: a rendered prompt has two lines that begin a block and two that end one, whatever the
answer). What merely looks like a fence, or like the turn markers that a served judge's tokenizer
would obey, is broken up before it is put in.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from checks.judgement import Exchange
from workers.judges.judge_file import JudgeFileError, read_mapping, validated
from workers.judges.layout import clean

SHIPPED_RUBRICS = Path(__file__).parent / "rubrics"
#: Raised when the same rubric file would be rendered otherwise than before.
RENDERING_VERSION = 1

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
#: How often a template holds each placeholder; {fence} may be repeated.
_ONCE = ("question", "answer")
_NONCE_CHARACTERS = 32
_FENCE_LIKE = re.compile(rf"fence[\W_]{{0,3}}[0-9a-f]{{6,{_NONCE_CHARACTERS}}}", re.IGNORECASE)
#: ``<|im_start|>``, ``</s>``, ``<start_of_turn>``, ``<<SYS>>``; some models write full-width bars.
_ANGLE_MARKER = re.compile(r"<(?=[|\uff5c/<]*\w)")
#: ``[INST]``, ``[/INST]``, ``[SYSTEM_PROMPT]``.
_SQUARE_MARKER = re.compile(r"\[(?=/?[A-Z_]{3,}\])")
_CUT = "\n[… {left_out} characters left out …]\n"

#: A request's messages, as the chat completions interface takes them.
Messages = tuple[dict[str, str], ...]


@dataclass(frozen=True, slots=True)
class Prompts:
    """The two requests about one exchange."""

    alignment: Messages
    coherence: Messages


class Rubric(BaseModel):
    """A rubric file.

    ``longest_characters`` bounds what is sent of a question and of an answer, so that a runaway
    answer neither costs a fortune nor outgrows the judge's context.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    id: str = Field(pattern=rf"^{_NAME.pattern}$")
    version: int = Field(ge=1)
    licence: str = Field(min_length=1)
    source: str = Field(min_length=1)
    longest_characters: int = Field(default=8000, ge=200, le=1_000_000)
    system: str = Field(min_length=1)
    alignment: str
    coherence: str

    @field_validator("system")
    @classmethod
    def _no_placeholder(cls, text: str) -> str:
        if found := _PLACEHOLDER.search(text):
            raise ValueError(f"{found.group()} is not filled in here; move it to the templates")
        return text

    @field_validator("alignment", "coherence")
    @classmethod
    def _all_placeholders(cls, template: str) -> str:
        found = _PLACEHOLDER.findall(template)
        for name in _ONCE:
            if found.count(name) != 1:
                raise ValueError(f"{{{name}}} must stand in it exactly once")
        if "fence" not in found:
            raise ValueError("{fence} is missing; say what lines with this mark mean")
        if unknown := set(found) - {*_ONCE, "fence"}:
            raise ValueError(f"{{{min(unknown)}}} is not filled in; remove it")
        if not template[template.index("{answer}") + len("{answer}") :].strip():
            raise ValueError("end with the form of the reply, after {answer}")
        return template

    @property
    def digest(self) -> str:
        """``sha256:…`` over everything that determines what is asked."""
        content = f"{RENDERING_VERSION}\n{self.model_dump_json()}"
        return f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"

    def render(self, exchange: Exchange) -> Prompts:
        """The two requests about an exchange; the same for the same exchange."""
        nonce = _nonce(exchange)
        values = {
            "question": self._block(exchange.question, nonce),
            "answer": self._block(exchange.answer, nonce),
            "fence": fence(nonce),
        }
        return Prompts(self._fill(self.alignment, values), self._fill(self.coherence, values))

    def _fill(self, template: str, values: dict[str, str]) -> Messages:
        # One pass, so that a placeholder inside an answer stays the text that it is.
        user = _PLACEHOLDER.sub(lambda found: values[found.group(1)], template)
        return ({"role": "system", "content": self.system}, {"role": "user", "content": user})

    def _block(self, text: str, nonce: str) -> str:
        inside = neutralised(_head_and_tail(clean(text), self.longest_characters), nonce)
        return f"[{fence(nonce)} begins]\n{inside}\n[{fence(nonce)} ends]"

    @classmethod
    def load(cls, name: str, named_in: Path) -> Self:
        """Load a shipped rubric by name, or a rubric file by its path.

        Args:
            name: ``default``, or a path that ends in ``.yaml`` or ``.yml``.
            named_in: the judge file that names it; a relative path starts from its directory.

        Raises:
            JudgeFileError: there is none of that name, or the file is wrong.
        """
        path = named_in.parent / name
        if path.suffix not in {".yaml", ".yml"}:
            path = SHIPPED_RUBRICS / f"{name}.yaml"
            if not _NAME.fullmatch(name) or not path.is_file():
                known = ", ".join(sorted(p.stem for p in SHIPPED_RUBRICS.glob("*.yaml")))
                raise JudgeFileError(
                    f"{named_in}: rubric: no such rubric is shipped; give one of these: {known}; "
                    "or the path of a .yaml file"
                )
        return validated(path, cls, read_mapping(path))


def fence(nonce: str) -> str:
    """The mark in both lines of a fence."""
    return f"FENCE {nonce}"


def neutralised(text: str, nonce: str) -> str:
    """A text that can neither close its fence nor open a turn of the judge's conversation.

    Markers keep their letters, with a space in them that makes them ordinary text.
    """
    text = re.sub(nonce, "(mark removed)", text, flags=re.IGNORECASE)
    text = _FENCE_LIKE.sub("(mark removed)", text)
    return _SQUARE_MARKER.sub("[ ", _ANGLE_MARKER.sub("< ", text))


def _nonce(exchange: Exchange) -> str:
    total = hashlib.sha256()
    for text in (exchange.question, exchange.answer):
        content = text.encode("utf-8", "surrogatepass")
        total.update(len(content).to_bytes(8, "big") + content)
    return total.hexdigest()[:_NONCE_CHARACTERS]


def _head_and_tail(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    half = longest // 2
    return text[:half] + _CUT.format(left_out=len(text) - 2 * half) + text[len(text) - half :]
