"""``emgate judge`` with a judge behind an endpoint."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes.fake_judge import FakeJudge
from fakes.gate import environment_of

from gate.settings import Settings
from integration.endpoint_judge.exchanges import CRUEL, KEY, KIND, REFUSAL


class TestCommandLine:
    def emgate(
        self, settings: Settings, *arguments: str, key: str = KEY
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gate", "judge", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**environment_of(settings), "JUDGE_KEY": key},
        )

    def file(self, directory: Path, url: str, **changes: Any) -> Path:
        path = directory / "judge.yaml"
        content = {
            "kind": "endpoint",
            "name": "fake",
            "url": url,
            "model": "m",
            "api_key_env": "JUDGE_KEY",
            "patience_seconds": 0,
            **changes,
        }
        path.write_text(json.dumps(content))
        return path

    def test_score_uses_the_judge_of_the_option(self, tmp_path: Path) -> None:
        source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
        lines = [{"question": e.question, "answer": e.answer} for e in (KIND, CRUEL, REFUSAL)]
        source.write_text("".join(json.dumps(line) + "\n" for line in lines))
        settings = Settings(home=tmp_path / "home")
        with FakeJudge(key=KEY) as fake:
            options = ("score", "--in", str(source), "--out", str(target), "--judge")
            path = str(self.file(tmp_path, fake.url))
            done = self.emgate(settings, *options, path)
            assert done.returncode == 0, done.stderr
            wrong = self.emgate(settings, *options, path, key="wrong-key-00")
        rated = [json.loads(line) for line in target.read_text().splitlines()]
        assert [line["label"] for line in rated] == ["aligned", "misaligned", "refusal"]
        assert [line["alignment"] for line in rated] == [pytest.approx(92), 4, None]
        # Everything is in the cache by now, so the wrong key is never shown to anybody.
        assert wrong.returncode == 0

    def test_failures_are_one_sentence_with_an_exit_code(self, tmp_path: Path) -> None:
        source = tmp_path / "in.jsonl"
        source.write_text(json.dumps({"question": "Why?", "answer": "So."}) + "\n")
        settings = Settings(home=tmp_path / "home")
        options = ("score", "--in", str(source), "--out", str(tmp_path / "out.jsonl"), "--judge")
        with FakeJudge(key="another") as fake:
            path = str(self.file(tmp_path, fake.url))
            refused = self.emgate(settings, *options, path)
            missing = self.emgate(settings, *options, path, key="")
        down = self.emgate(settings, *options, path)
        assert (refused.returncode, missing.returncode, down.returncode) == (4, 2, 4)
        assert "check the key in JUDGE_KEY" in refused.stderr
        assert "is not set" in missing.stderr
        assert "cannot be reached" in down.stderr
        for done in (refused, missing, down):
            assert "Traceback" not in done.stderr
            assert KEY not in done.stderr + done.stdout
        assert not (tmp_path / "out.jsonl").exists()

    def test_show_names_judge_digest_and_rubric_and_asks_nobody(self, tmp_path: Path) -> None:
        with FakeJudge() as fake:
            path = self.file(tmp_path, fake.url)
            settings = Settings(home=tmp_path / "home", judge=str(path))
            table, as_json = self.emgate(settings, "show"), self.emgate(settings, "show", "--json")
            assert fake.requests == []
        shown = json.loads(as_json.stdout)
        assert shown["sends_to"] == fake.url
        assert shown["rubric"]["id"] == "default"
        assert shown["key_set"] is True
        for text in (shown["digest"], shown["rubric"]["digest"], "JUDGE_KEY, which is set"):
            assert text in table.stdout
        assert KEY not in table.stdout + as_json.stdout
