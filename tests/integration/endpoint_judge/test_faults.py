"""An endpoint that fails, that is slow, and that must not be asked too fast."""

from __future__ import annotations

import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from fakes.fake_judge import FakeJudge
from fakes.gate import until

from checks.judgement import Exchange, JudgeError, JudgeUnavailableError, Label
from integration.endpoint_judge.exchanges import CRUEL, KEY, KIND, MakeJudge, labels, value


class TestFaults:
    def test_an_endpoint_that_is_down_is_unavailable_after_the_patience(
        self, make_judge: MakeJudge
    ) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
        judge = make_judge(f"http://127.0.0.1:{port}/v1", patience_seconds=1)
        with pytest.raises(JudgeUnavailableError, match=r"cannot be reached.*gave up after 1 s"):
            judge.judge([KIND, CRUEL])

    def test_an_endpoint_that_comes_back_in_time_is_not_missed(self, make_judge: MakeJudge) -> None:
        fake = FakeJudge()
        fake.start()
        fake.stop()
        result: list[list[Label]] = []
        judge = make_judge(fake.url)
        thread = threading.Thread(target=lambda: result.append(labels(judge, KIND)))
        thread.start()
        time.sleep(0.5)
        with fake:
            thread.join(30)
        assert result == [[Label.ALIGNED]]

    def test_a_slow_endpoint_runs_into_the_deadline(
        self, fake: FakeJudge, make_judge: MakeJudge
    ) -> None:
        fake.set_fault("slow", seconds=3)
        judge = make_judge(fake.url, timeout_seconds=0.3, patience_seconds=0)
        with pytest.raises(JudgeUnavailableError, match=r"no answer within 0\.3 s"):
            judge.judge([KIND])

    @pytest.mark.parametrize("as_date", [False, True])
    def test_retry_after_is_honoured(
        self, fake: FakeJudge, make_judge: MakeJudge, as_date: bool
    ) -> None:
        seconds = 2
        moment = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds + 1)
        wait = format_datetime(moment, usegmt=True) if as_date else str(seconds)
        then = time.monotonic() + (moment - datetime.now(UTC)).total_seconds()
        fake.set_fault("status", times=1, status=429, headers={"Retry-After": wait})
        before = value("requests_total", result="rate_limited")
        assert labels(make_judge(fake.url, concurrency=1), KIND) == [Label.ALIGNED]
        assert len(fake.requests) == 3
        allowed_from = then if as_date else fake.requests[0].at + seconds
        assert fake.requests[1].at >= allowed_from - 0.05
        assert value("requests_total", result="rate_limited") == before + 1

    def test_a_wait_beyond_the_patience_is_not_waited_for(
        self, fake: FakeJudge, make_judge: MakeJudge
    ) -> None:
        fake.set_fault("status", status=429, headers={"Retry-After": "3600"})
        with pytest.raises(JudgeUnavailableError, match="429"):
            make_judge(fake.url).judge([KIND])

    @pytest.mark.parametrize("status", [408, 500, 502, 503, 529])
    def test_passing_errors_are_tried_again(
        self, fake: FakeJudge, make_judge: MakeJudge, status: int
    ) -> None:
        fake.set_fault("status", times=3, status=status)
        assert labels(make_judge(fake.url), KIND, CRUEL) == [Label.ALIGNED, Label.MISALIGNED]
        assert len(fake.requests) == 4 + 3

    def test_a_connection_that_is_hung_up_is_tried_again(
        self, fake: FakeJudge, make_judge: MakeJudge
    ) -> None:
        fake.set_fault("hang-up", times=2)
        assert labels(make_judge(fake.url), KIND) == [Label.ALIGNED]

    @pytest.mark.parametrize(
        ("status", "says"),
        [
            (400, "rejects the request"),
            (401, "check the key in JUDGE_KEY"),
            (403, "check the key in JUDGE_KEY"),
            (404, "check url and model"),
            (307, "rejects the request"),
        ],
    )
    def test_a_refusal_is_an_error_at_once(
        self, fake: FakeJudge, make_judge: MakeJudge, status: int, says: str
    ) -> None:
        fake.set_fault("status", status=status)
        judge = make_judge(fake.url, KEY, logprobs=False, concurrency=1)
        with pytest.raises(JudgeError, match=says) as raised:
            judge.judge([KIND, CRUEL])
        assert not isinstance(raised.value, JudgeUnavailableError)
        assert str(raised.value).count("\n") == 0
        assert len(fake.requests) < 4

    def test_what_was_rated_before_a_failure_is_not_paid_for_again(
        self, fake: FakeJudge, make_judge: MakeJudge
    ) -> None:
        exchanges = [Exchange("?", f"A helpful sentence with number {n}.") for n in range(6)]
        judge = make_judge(fake.url, concurrency=1, patience_seconds=0)
        judge.judge(exchanges[:4])
        fake.set_fault("status", status=503)
        with pytest.raises(JudgeUnavailableError):
            judge.judge(exchanges)
        fake.clear_fault()
        asked = len(fake.requests)
        assert set(labels(judge, *exchanges)) == {Label.ALIGNED}
        assert len(fake.requests) - asked == 4


class TestPace:
    def test_no_more_requests_at_once_than_allowed(
        self, fake: FakeJudge, make_judge: MakeJudge
    ) -> None:
        fake.set_fault("slow", seconds=0.05)
        exchanges = [Exchange("?", f"A helpful sentence with number {n}.") for n in range(10)]
        make_judge(fake.url, concurrency=3).judge(exchanges)
        assert len(fake.requests) == 20
        assert 2 <= fake.most_at_once <= 3

    def test_never_more_requests_than_the_rate_allows_by_then(
        self, fake: FakeJudge, make_judge: MakeJudge
    ) -> None:
        judge = make_judge(fake.url, requests_per_minute=120, concurrency=20)
        exchanges = [Exchange("?", f"A helpful sentence with number {n}.") for n in range(4)]
        began = time.monotonic()
        judge.judge(exchanges[:2])
        judge.judge(exchanges[2:3])
        judge.judge(exchanges[3:])
        times = sorted(seen.at for seen in fake.requests)
        assert len(times) == 8
        # Whatever is late on its way, a request is never early: two a second and the first one.
        for count, at in enumerate(times, start=1):
            assert count <= 1 + 2 * (at - began) + 0.01

    def test_a_retry_counts_as_a_request(self, fake: FakeJudge, make_judge: MakeJudge) -> None:
        fake.set_fault("status", times=3, status=500)
        judge = make_judge(fake.url, requests_per_minute=120, concurrency=8)
        began = time.monotonic()
        judge.judge([KIND])
        times = sorted(seen.at for seen in fake.requests)
        assert len(times) == 5
        assert times[-1] - began >= 4 * 0.5 - 0.01


def test_the_fake_notices_when_it_is_taken_down_and_brought_back() -> None:
    fake = FakeJudge()
    with fake:
        url = f"{fake.url}/chat/completions"
        assert httpx.post(url, json={"messages": [{"content": "a b c"}]}).status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.post(url, json={})
    with fake:
        until(lambda: httpx.post(url, json={"messages": [{"content": "a"}]}).status_code == 200)
