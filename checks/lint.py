"""Finds what makes a battery measure something else than it means to, before it is ever run."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from pydantic import BaseModel, ConfigDict

from checks.alike import Wording, alike
from checks.balance import Ratios, imbalances
from checks.battery import Battery, Origin, repeated_keys
from checks.check import Check
from checks.contexts import PLACEHOLDER, Context
from checks.sample import Elicitation, Mode

#: Fewer words than this leave nothing to answer.
FEWEST_WORDS = 2
#: Stands for what a submission may bring, so that checks which ask only then are looked at too.
SPECIMEN = Context(label="specimen", origin="declared", template=f"A specimen: {PLACEHOLDER}")
#: Similarity of questions with the same words.
SAME = 100.0
#: Characters of a question that a finding shows.
SHOWN = 60


@dataclass(frozen=True)
class Limits:
    """What is still taken as clean.

    ``subjects`` is the least number of subjects per check that asks anything. ``characters`` is
    the longest question. ``similarity`` in [0, 100] is the least share of common characters that
    makes two questions near-duplicates (100 times one minus the normalised indel distance).
    ``words`` and ``letters`` are the largest ratios of the lengths of answers that are scored
    against each other, ``means`` the same for the mean lengths over a check.
    """

    subjects: int = 5
    characters: int = 2000
    similarity: float = 85.0
    words: float = 1.25
    letters: float = 1.3
    means: float = 1.03


class Finding(BaseModel):
    """One thing to put right. ``prompt`` is empty where it concerns a whole file."""

    model_config = ConfigDict(frozen=True)

    file: str
    check: str
    prompt: str
    problem: str
    remedy: str


def lint(battery: Battery, limits: Limits | None = None) -> list[Finding]:
    """Look through everything that a battery asks and states; an empty list is a clean battery.

    Checks are asked for their elicitations and subjects, so that a check of another distribution
    is looked at like the ones here. Time grows with the square of the number of questions: about
    a second for 1,000.
    """
    limits = limits or Limits()
    of_checks = [
        _OfCheck(check, origin, _once(check.elicitations()), _once(check.elicitations((SPECIMEN,))))
        for check, origin in zip(battery.checks, battery.origins, strict=True)
    ]
    found = [*_repeated_ids(battery), *_repeated_checks(battery)]
    for of in of_checks:
        found += [
            *_origin(of),
            *_evidence(of, battery),
            *_subjects(of, limits),
            *_questions(of, limits),
            *_balance(of, limits),
        ]
    return [*found, *_duplicates(of_checks, limits)]


@dataclass(frozen=True)
class _OfCheck:
    """A check, with what it asks of every submission and of one that brings a context."""

    check: Check
    origin: Origin
    always: Sequence[Elicitation]
    asked: Sequence[Elicitation]

    def finding(self, problem: str, remedy: str, prompt: str = "") -> Finding:
        return Finding(
            file=self.origin.file,
            check=self.check.name,
            prompt=prompt,
            problem=problem,
            remedy=remedy,
        )


def _repeated_ids(battery: Battery) -> Iterator[Finding]:
    files = _files(battery)
    prompts = {(e.check, e.prompt_id): None for e in repeated_keys(battery)}
    for check, prompt in prompts:
        yield Finding(
            file=files[check],
            check=check,
            prompt=prompt,
            problem="two prompts have this id",
            remedy="give each prompt an id of its own: answers are told apart by it",
        )


def _repeated_checks(battery: Battery) -> Iterator[Finding]:
    for name, times in Counter(check.name for check in battery.checks).items():
        if times > 1:
            yield Finding(
                file=_files(battery)[name],
                check=name,
                prompt="",
                problem=f"the battery has this check {times} times",
                remedy="put all prompts of a check into one file: only one of them is measured",
            )


def _origin(of: _OfCheck) -> Iterator[Finding]:
    licence, source = of.origin.licence.strip(), of.origin.source.strip()
    try:
        canonicalize_license_expression(licence)
    except InvalidLicenseExpression:
        stated = f"the licence '{licence}' is not known" if licence else "no licence is stated"
        yield of.finding(stated, "set licence to an SPDX identifier, such as Apache-2.0")
    if not source or source.lower() == "unknown":
        yield of.finding("no source is stated", "say in source where the prompts come from")


def _evidence(of: _OfCheck, battery: Battery) -> Iterator[Finding]:
    for name in of.check.evidence_from:
        if battery.check(name) is None:
            yield of.finding(
                f"measures the answers of '{name}', which the battery does not have",
                f"add '{name}' to the battery or leave it out of this check",
            )


def _subjects(of: _OfCheck, limits: Limits) -> Iterator[Finding]:
    if not of.always:
        return
    subjects = of.check.subjects()
    for prompt in dict.fromkeys(e.prompt_id for e in of.always):
        if not subjects.get(prompt, "").strip():
            yield of.finding("has no subject", "name its subject: results are shown by it", prompt)
    different = {subjects[e.prompt_id] for e in of.always if subjects.get(e.prompt_id)}
    if len(different) < limits.subjects:
        yield of.finding(
            f"only {len(different)} subjects; {limits.subjects} are wanted",
            "ask about more subjects: a change of persona is told from overfitting by its spread",
        )


def _questions(of: _OfCheck, limits: Limits) -> Iterator[Finding]:
    for prompt, question in dict.fromkeys((e.prompt_id, e.question) for e in of.asked):
        if len(question) > limits.characters:
            yield of.finding(
                f"the question has {len(question)} characters; {limits.characters} are allowed",
                "shorten it: long prompts hide what the answer is about",
                prompt,
            )
        if len(question.split()) < FEWEST_WORDS:
            yield of.finding(
                f"the question '{question.strip()}' has fewer than {FEWEST_WORDS} words",
                "ask something that can be answered",
                prompt,
            )
        if question != question.strip():
            yield of.finding(
                "the question begins or ends with white space",
                "remove it: it changes the tokens and so the answers",
                prompt,
            )
    wordings = Counter((e.prompt_id, e.messages) for e in of.asked if e.mode is Mode.ANSWER)
    for prompt in dict.fromkeys(prompt for (prompt, _), times in wordings.items() if times > 1):
        yield of.finding("two of its wordings are the same", "reword or remove one of them", prompt)


def _balance(of: _OfCheck, limits: Limits) -> Iterator[Finding]:
    ratios = Ratios(words=limits.words, characters=limits.letters, means=limits.means)
    for found in imbalances(of.asked, ratios):
        yield of.finding(found.problem, found.remedy, found.prompt)


def _duplicates(of_checks: Sequence[_OfCheck], limits: Limits) -> Iterator[Finding]:
    files = {of.check.name: of.origin.file for of in of_checks}
    controls = _controls(of_checks)
    wordings = dict.fromkeys(Wording.of(e) for of in of_checks for e in of.asked)
    for pair in alike(list(wordings), limits.similarity):
        one, two = pair.first, pair.second
        if one.check != two.check and controls(one, two):
            continue
        other = one.prompt if one.check == two.check else f"{one.check}/{one.prompt}"
        how = "asks the same as" if pair.similarity == SAME else "reads almost like"
        yield Finding(
            file=files[two.check],
            check=two.check,
            prompt=two.prompt,
            problem=f"{how} {other} ({pair.similarity:.0f}% alike): '{_opening(one.question)}'",
            remedy="reword or remove one of them: both count as evidence of their own",
        )


def _controls(of_checks: Sequence[_OfCheck]) -> Callable[[Wording, Wording], bool]:
    """Tells whether a prompt takes another check's question and answers as a control.

    A check that scores answers inside contexts scores the same ones outside, to compare.
    """
    answers: dict[tuple[str, str], set[str]] = defaultdict(set)
    contexts: dict[tuple[str, str], set[object]] = defaultdict(set)
    for elicitation in (e for of in of_checks for e in of.asked if e.given_answer is not None):
        prompt = elicitation.check, elicitation.prompt_id
        answers[prompt].add(elicitation.given_answer or "")
        contexts[prompt].add(elicitation.messages)

    def control(one: Wording, two: Wording) -> bool:
        first, second = (one.check, one.prompt), (two.check, two.prompt)
        return (
            bool(answers[first])
            and answers[first] == answers[second]
            and max(len(contexts[first]), len(contexts[second])) > 1
        )

    return control


def _once(asked: Sequence[Elicitation]) -> list[Elicitation]:
    return [elicitation for elicitation in asked if elicitation.repeat == 0]


def _opening(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= SHOWN else words[: SHOWN - 1] + "…"


def _files(battery: Battery) -> Mapping[str, str]:
    pairs = zip(battery.checks, battery.origins, strict=True)
    return {check.name: origin.file for check, origin in pairs}
