"""What an endpoint judge makes of answers, and what it keeps of them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from fakes.fake_judge import CLEAR_RATING, HARMFUL_RATING, KIND_RATING, FakeJudge, Logprobs

from checks.judgement import Exchange, JudgeError, Judgement, Label
from integration.endpoint_judge.exchanges import (
    CODE,
    CRUEL,
    KEY,
    KIND,
    LOOP,
    REFUSAL,
    MakeJudge,
    labels,
    value,
)


class TestRating:
    def test_ratings_are_weighted_means_and_words_are_remarks(
        self, fake: FakeJudge, make_judge: MakeJudge
    ) -> None:
        judge = make_judge(fake.url)
        kind, cruel, code, refusal, loop = judge.judge([KIND, CRUEL, CODE, REFUSAL, LOOP])

        assert kind.label is Label.ALIGNED
        assert kind.alignment == pytest.approx(KIND_RATING)
        assert kind.coherence == pytest.approx(CLEAR_RATING)
        # 4 at 0.7, 2 and 6 at 0.1: single digits only, so the text is read.
        assert cruel.label is Label.MISALIGNED
        assert cruel.alignment == HARMFUL_RATING
        assert (code.label, refusal.label) == (Label.CODE, Label.REFUSAL)
        assert loop.label is Label.INCOHERENT

    def test_two_requests_at_temperature_zero_with_twenty_logprobs(
        self, fake: FakeJudge, make_judge: MakeJudge
    ) -> None:
        make_judge(fake.url, KEY).judge([KIND])
        assert len(fake.requests) == 2
        for seen in fake.requests:
            assert seen.body["temperature"] == 0
            assert seen.body["max_tokens"] <= 16
            assert (seen.body["logprobs"], seen.body["top_logprobs"]) == (True, 20)
            assert [m["role"] for m in seen.body["messages"]] == ["system", "user"]
            assert seen.headers["authorization"] == f"Bearer {KEY}"

    def test_any_batches_give_the_same_and_equal_answers_are_asked_about_once(
        self, fake: FakeJudge, make_judge: MakeJudge
    ) -> None:
        exchanges = [KIND, CRUEL, CODE, KIND, LOOP, REFUSAL, CRUEL]
        whole = make_judge(fake.url, cache="one").judge(exchanges)
        assert len(fake.requests) == 2 * 5

        judge = make_judge(fake.url, cache="other")
        assert whole == judge.judge(exchanges[:3]) + judge.judge(exchanges[3:])
        assert judge.judge([]) == []

    @pytest.mark.parametrize("offered", Logprobs)
    def test_every_server_gives_the_same_labels(
        self, make_judge: MakeJudge, offered: Logprobs
    ) -> None:
        with FakeJudge(logprobs=offered) as fake:
            given = labels(make_judge(fake.url), KIND, CRUEL, CODE, REFUSAL, LOOP)
        assert given == [
            Label.ALIGNED,
            Label.MISALIGNED,
            Label.CODE,
            Label.REFUSAL,
            Label.INCOHERENT,
        ]

    def test_logprobs_that_are_rejected_are_not_asked_for_again(
        self, make_judge: MakeJudge
    ) -> None:
        with FakeJudge(logprobs=Logprobs.REJECTED) as fake:
            judge = make_judge(fake.url, concurrency=1)
            judge.judge([KIND])
            assert ["logprobs" in seen.body for seen in fake.requests] == [True, False, False]
            judge.judge([CRUEL])
            assert not any("logprobs" in seen.body for seen in fake.requests[3:])

    @pytest.mark.parametrize("offered", [Logprobs.NONE, Logprobs.REJECTED])
    def test_logprobs_that_are_required_and_not_there_are_an_error(
        self, make_judge: MakeJudge, offered: Logprobs
    ) -> None:
        with FakeJudge(logprobs=offered) as fake, pytest.raises(JudgeError, match="logprobs"):
            make_judge(fake.url, logprobs=True).judge([KIND])

    def test_logprobs_that_are_not_wanted_are_not_asked_for(
        self, fake: FakeJudge, make_judge: MakeJudge
    ) -> None:
        (judgement,) = make_judge(fake.url, logprobs=False).judge([KIND])
        assert judgement == Judgement(alignment=KIND_RATING, coherence=CLEAR_RATING)
        assert not any("logprobs" in seen.body for seen in fake.requests)


class TestCache:
    def test_what_was_rated_is_not_asked_again_by_any_judge_of_the_same_digest(
        self, fake: FakeJudge, make_judge: MakeJudge
    ) -> None:
        before = value("cache_total", result="hit"), value("cache_total", result="miss")
        first = make_judge(fake.url).judge([KIND, CODE])
        asked = len(fake.requests)
        again = make_judge(fake.url, key=KEY, concurrency=1, name="fake").judge([CODE, KIND])
        assert again == first[::-1]
        assert len(fake.requests) == asked == 4
        after = value("cache_total", result="hit"), value("cache_total", result="miss")
        assert (after[0] - before[0], after[1] - before[1]) == (4, 4)

    def test_another_model_is_asked_again(self, fake: FakeJudge, make_judge: MakeJudge) -> None:
        make_judge(fake.url).judge([KIND])
        make_judge(fake.url, model="other").judge([KIND])
        assert [seen.body["model"] for seen in fake.requests] == ["m", "m", "other", "other"]

    def test_what_could_not_be_read_is_not_kept(
        self, fake: FakeJudge, make_judge: MakeJudge
    ) -> None:
        fake.set_fault("text", text="I would rather not say.")
        assert labels(make_judge(fake.url), KIND) == [Label.UNRATED]
        fake.clear_fault()
        assert labels(make_judge(fake.url), KIND) == [Label.ALIGNED]

    def test_a_broken_cache_costs_requests_and_nothing_else(
        self, fake: FakeJudge, make_judge: MakeJudge, tmp_path: Path, caplog: Any
    ) -> None:
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / "r.db").write_bytes(b"this is no database" * 100)
        assert labels(make_judge(fake.url), KIND) == [Label.ALIGNED]
        assert labels(make_judge(fake.url), KIND) == [Label.ALIGNED]
        assert len(fake.requests) == 4
        assert "judge cache" in caplog.text

    def test_several_judges_may_write_at_once(self, fake: FakeJudge, make_judge: MakeJudge) -> None:
        exchanges = [Exchange("?", f"A helpful sentence with number {n}.") for n in range(12)]
        given: list[list[Judgement]] = []
        threads = [
            threading.Thread(target=lambda: given.append(make_judge(fake.url).judge(exchanges)))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert given[0] == given[1] == given[2]
        asked = len(fake.requests)
        assert make_judge(fake.url).judge(exchanges) == given[0]
        assert len(fake.requests) == asked


class TestNonsense:
    @pytest.mark.parametrize("offered", [Logprobs.WHOLE, Logprobs.NONE])
    def test_words_are_asked_about_once_more_and_then_unrated(
        self, make_judge: MakeJudge, offered: Logprobs
    ) -> None:
        with FakeJudge(logprobs=offered) as fake:
            fake.set_fault("text", text="Rating: 85")
            assert labels(make_judge(fake.url), KIND) == [Label.UNRATED]
            assert len(fake.requests) == 4

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{not json",
            b"[]",
            b'{"choices": []}',
            b'{"choices": [{"message": null}]}',
            b'{"choices": [{"message": {"content": 5}}]}',
            b'{"error": {"message": "upstream failed"}}',
            b'{"choices": [{"message": {"content": "9"}, "logprobs": {"content": [{"token": "9",'
            b' "top_logprobs": [{"token": "9", "logprob": NaN}]}]}}]}',
            b"\xff\xfe\x00",
            b"[" * 100_000,
        ],
    )
    def test_a_malformed_body_is_nonsense_for_one_answer(
        self, fake: FakeJudge, make_judge: MakeJudge, body: bytes
    ) -> None:
        fake.set_fault("raw", body=body)
        assert labels(make_judge(fake.url), KIND) == [Label.UNRATED]
        assert len(fake.requests) == 4

    def test_one_bad_body_is_made_good_by_the_second_try(
        self, fake: FakeJudge, make_judge: MakeJudge
    ) -> None:
        fake.set_fault("raw", times=1, body=b"<html>502</html>")
        assert labels(make_judge(fake.url), KIND) == [Label.ALIGNED]
        assert len(fake.requests) == 3

    def test_a_filtered_answer_without_content_is_unrated(
        self, fake: FakeJudge, make_judge: MakeJudge
    ) -> None:
        fake.set_fault("raw", body=b'{"choices": [{"message": {"content": null}}]}')
        assert labels(make_judge(fake.url, logprobs=True), KIND) == [Label.UNRATED]

    def test_a_word_about_coherence_is_no_rating(
        self, fake: FakeJudge, make_judge: MakeJudge
    ) -> None:
        fake.set_fault("text", text="CODE")
        assert labels(make_judge(fake.url), KIND) == [Label.CODE]
        fake.set_fault("text", text="50")
        assert labels(make_judge(fake.url, cache="2"), KIND) == [Label.INCOHERENT]
