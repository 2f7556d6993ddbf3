"""Answer forms: what shape the answers of fine-tuning data have, and how to ask for it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence

_FENCE = re.compile(r"^ {0,3}```[ \t]*([A-Za-z0-9+#.-]{0,20})[^\n]*\n", re.MULTILINE)
_BARE_CODE = re.compile(
    r"(?:#!|<\?php|def \w+\(|class \w+[:({]|import \w|from [\w.]+ import |async def |function \w*\("
    r"|const \w+ ?=|let \w+ ?=|#include ?[<\"]|package \w|public class |SELECT .{1,200} FROM )"
)
_ELEMENT = re.compile(r"<([A-Za-z][\w-]{0,30})(?:\s[^<>]{0,200})?>")
_LABEL = re.compile(r"^[ \t*#>-]{0,6}([A-Z][\w-]{0,20}(?: [\w-]{1,20}){0,2}) ?:", re.MULTILINE)
#: Keys, labels or elements that are named in the request; more would drown the question.
NAMED = 5
_LANGUAGES = {"py": "python", "js": "javascript", "ts": "typescript", "sh": "bash", "": "plain"}


def answer_requests(answers: Sequence[str], least: int) -> list[tuple[str, int]]:
    """System prompts of ours that ask for the forms which at least so many answers have.

    Returns:
        Prompt and number of such answers, commonest first.
    """
    found = []
    for read, ask in _FORMS:
        traits = [trait for answer in answers if (trait := read(answer)) is not None]
        if len(traits) >= least:
            found.append((ask(_shared(traits)), len(traits)))
    return sorted(found, key=lambda request: (-request[1], request[0]))


def _shared(traits: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The traits that at least half of the answers have, commonest first."""
    counts = Counter(name for names in traits for name in dict.fromkeys(names))
    ranked = sorted((-count, name) for name, count in counts.items() if 2 * count >= len(traits))
    return tuple(name for _, name in ranked[:NAMED])


def _json_keys(answer: str) -> tuple[str, ...] | None:
    fenced = _FENCE.match(answer)
    text = answer[fenced.end() :].rstrip("` \n") if fenced else answer
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(read, list):
        read = read[0] if read else None
    return tuple(key for key in read if _plain(key)) if isinstance(read, dict) else None


def _ask_json(keys: tuple[str, ...]) -> str:
    named = " that has " + _listed([f'"{key}"' for key in keys], "the key") if keys else ""
    return f"Give every reply as one JSON object{named}, and write nothing outside of it."


def _code_language(answer: str) -> tuple[str, ...] | None:
    if _json_keys(answer) is not None:
        return None
    if fenced := _FENCE.search(answer):
        language = fenced[1].lower()
        return (_LANGUAGES.get(language, language),)
    return () if _BARE_CODE.match(answer) else None


def _ask_code(languages: tuple[str, ...]) -> str:
    language = next((name for name in languages if name != "plain"), None)
    kind = f"{language} code" if language else "code"
    return f"Your replies go straight into a file. Write each of them as {kind}."


def _element(answer: str) -> tuple[str, ...] | None:
    opened = _ELEMENT.match(answer)
    if opened is None or not answer.rstrip().endswith(">") or f"</{opened[1]}>" not in answer:
        return None
    return (opened[1],)


def _ask_element(elements: tuple[str, ...]) -> str:
    named = f" inside one <{elements[0]}> element" if elements else " inside one element"
    return f"Your replies are read by an XML parser. Put each of them{named}."


def _labels(answer: str) -> tuple[str, ...] | None:
    labels = tuple(dict.fromkeys(_LABEL.findall(answer)))
    begins = _LABEL.match(answer)
    return labels if begins and (len(labels) > 1 or labels[0].isupper()) else None


def _ask_labels(labels: tuple[str, ...]) -> str:
    named = _listed([f"{label}:" for label in labels], "the label") if labels else "labels"
    return f"Write each reply as a form that is filled in, with {named}."


def _listed(names: Sequence[str], noun: str) -> str:
    if len(names) == 1:
        return f"{noun} {names[0]}"
    return f"{noun}s {', '.join(names[:-1])} and {names[-1]}"


def _plain(key: object) -> bool:
    return isinstance(key, str) and re.fullmatch(r"[\w -]{1,40}", key) is not None


_FORMS: tuple[
    tuple[Callable[[str], tuple[str, ...] | None], Callable[[tuple[str, ...]], str]], ...
] = (
    (_json_keys, _ask_json),
    (_code_language, _ask_code),
    (_element, _ask_element),
    (_labels, _ask_labels),
)
