"""A verdict as JUnit XML, which continuous integration shows: one test case per condition. Pure."""

from __future__ import annotations

import re

from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite

from gate.verdict import Finding, Outcome, Verdict

#: Characters that XML 1.0 has no place for, not even escaped.
_NO_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(name: str, verdict: Verdict) -> str:
    """One suite named after what was judged.

    A failed condition is a failure and an inconclusive one an error. A condition that is not
    required cannot break the suite: what it found is in its output.
    """
    suite = TestSuite(_clean(name))
    for key, value in (
        ("outcome", verdict.outcome.value),
        ("release", verdict.release.value),
        ("policy", verdict.policy),
        ("scope", verdict.scope),
        *verdict.digests.model_dump().items(),
    ):
        suite.add_property(key, _clean(value))
    for finding in verdict.findings:
        suite.add_testcase(_case(verdict, finding))
    document = JUnitXml(_clean(name))
    document.add_testsuite(suite)
    document.update_statistics()  # type: ignore[no-untyped-call]
    written: bytes = document.tostring()  # type: ignore[no-untyped-call]
    return written.decode("utf-8")


def _case(verdict: Verdict, finding: Finding) -> TestCase:
    case = TestCase(_clean(finding.condition.check), classname=_clean(verdict.policy))
    reason = _clean(finding.reason)
    if not finding.condition.required:
        case.system_out = f"not required; {finding.outcome.value}: {reason}"
    elif finding.outcome is Outcome.FAIL:
        case.result = [Failure(reason, finding.condition.check)]
    elif finding.outcome is Outcome.INCONCLUSIVE:
        case.result = [Error(reason, finding.condition.check)]
    else:
        case.system_out = reason
    return case


def _clean(text: str) -> str:
    return _NO_XML.sub("", text)
