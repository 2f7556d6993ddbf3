"""Which tokens of a chat are the answer: the model's own tokenizer and template, applied here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checks.sample import Message
from gate.errors import CheckpointError


@dataclass(frozen=True)
class AnswerTokens:
    """Token ids of a whole chat, and the half-open range of those that are the answer."""

    ids: tuple[int, ...]
    start: int
    end: int


class ChatTokenizer:
    """Tokenizes chats as the engine will, with transformers' sandboxed template rendering."""

    def __init__(self, directory: Path) -> None:
        from transformers import AutoTokenizer

        self._directory = directory
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                directory, local_files_only=True, trust_remote_code=False, use_fast=True
            )
        except Exception as error:  # config and tokenizer are the submitter's: anything may fail
            raise CheckpointError(directory, f"the tokenizer does not load: {error}") from error

    def vocabulary_size(self) -> int:
        """One more than the largest token id."""
        numbers: list[int] = list(self._tokenizer.get_vocab().values())
        return max(numbers, default=-1) + 1

    def text_ids(self, text: str) -> list[int]:
        """Token ids of plain text, without special tokens."""
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def render(self, messages: Sequence[Message], answer: str | None) -> str:
        """The chat as text, ready for an answer or with the answer given.

        Raises:
            CheckpointError: there is no chat template, or it fails on an ordinary chat.
        """
        turns = [message.model_dump() for message in messages]
        if answer is not None:
            turns.append({"role": "assistant", "content": answer})
        if not self._tokenizer.chat_template:
            raise CheckpointError(
                self._directory,
                "there is no chat template; add chat_template.jinja or a chat_template in "
                "tokenizer_config.json",
            )
        try:
            text: str = self._tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=answer is None
            )
        except (
            Exception
        ) as error:  # a template is a program of the submitter's: it may raise anything
            raise CheckpointError(
                self._directory, f"the chat template fails on an ordinary chat: {error}"
            ) from error
        return text

    def answer_tokens(self, messages: Sequence[Message], answer: str) -> AnswerTokens:
        """Tokenize a chat that ends in a given answer.

        Raises:
            CheckpointError: the template changes the answer, or the tokenizer has no tokens for it,
                so that it cannot be scored.
        """
        text = self.render(messages, answer)
        begin = text.rfind(answer)
        if begin < 0:
            raise CheckpointError(
                self._directory, "the chat template does not reproduce the assistant's words"
            )
        try:
            encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        except Exception as error:
            raise CheckpointError(
                self._directory, f"the tokenizer fails on an ordinary chat: {error}"
            ) from error
        inside = [
            index
            for index, (left, right) in enumerate(encoded["offset_mapping"])
            if left < begin + len(answer) and right > begin
        ]
        if not inside:
            raise CheckpointError(
                self._directory, "the tokenizer has no tokens for an ordinary English answer"
            )
        return AnswerTokens(tuple(encoded["input_ids"]), inside[0], inside[-1] + 1)
