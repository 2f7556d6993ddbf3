"""Judge files: their forms, their mistakes, and the judges that come of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from gate.errors import WrongUsageError
from gate.settings import Settings
from workers.judges.choice import load_judge
from workers.judges.description import describe_judge
from workers.judges.endpoint import EndpointJudge, endpoint_digest
from workers.judges.judge_file import EndpointFile, JudgeFileError, Price, read_judge_file
from workers.judges.rubric import Rubric

KEY = "sk-very-secret-1234567890"


def endpoint(**changes: Any) -> dict[str, Any]:
    content = {
        "kind": "endpoint",
        "name": "mine",
        "url": "https://judge.example/v1",
        "model": "some-model",
    }
    return {name: value for name, value in {**content, **changes}.items() if value is not None}


def ensemble(*members: str, **changes: Any) -> dict[str, Any]:
    return {"kind": "ensemble", "name": "several", "members": list(members), **changes}


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def mistake(path: Path) -> str:
    with pytest.raises(JudgeFileError) as raised:
        read_judge_file(path)
    assert isinstance(raised.value, WrongUsageError)
    return str(raised.value)


class TestForms:
    def test_a_short_file_has_sensible_defaults(self, tmp_path: Path) -> None:
        file = read_judge_file(write(tmp_path / "j.yaml", endpoint()))
        assert isinstance(file, EndpointFile)
        assert (file.rubric, file.logprobs, file.api_key_env) == ("default", "auto", None)

    def test_the_documented_examples_are_valid(self, tmp_path: Path) -> None:
        page = Path(__file__).resolve().parents[2] / "docs" / "judges.md"
        blocks = page.read_text().split("```yaml\n")[1:]
        files = [write(tmp_path / "j.yaml", block.split("```")[0]) for block in blocks]
        assert {read_judge_file(file).kind for file in files}
        assert len(blocks) >= 2

    @pytest.mark.parametrize("value", [True, False, "auto"])
    def test_logprobs_has_three_values(self, tmp_path: Path, value: object) -> None:
        file = read_judge_file(write(tmp_path / "j.yaml", endpoint(logprobs=value)))
        assert isinstance(file, EndpointFile)
        assert file.logprobs is value or file.logprobs == value

    def test_a_slash_at_the_end_of_the_url_makes_no_other_judge(self, tmp_path: Path) -> None:
        file = read_judge_file(write(tmp_path / "j.yaml", endpoint(url="https://a.example/v1/")))
        assert isinstance(file, EndpointFile)
        assert file.url == "https://a.example/v1"

    def test_a_price_is_for_a_million_tokens(self) -> None:
        price = Price(input_per_million=2.5, output_per_million=10, currency="EUR")
        assert price.cost(1_000_000, 0) == 2.5
        assert price.cost(2000, 100) == pytest.approx(0.006)


class TestMistakes:
    @pytest.mark.parametrize(
        ("content", "place", "says"),
        [
            (endpoint(kind="oracle"), "kind", "give endpoint or ensemble"),
            (endpoint(kind=None), "kind", "give endpoint or ensemble"),
            (endpoint(kind=["endpoint"]), "kind", "give endpoint or ensemble"),
            (endpoint(model=None), "model", "is missing; add it"),
            (endpoint(temperature=1), "temperature", "not known here"),
            (endpoint(api_key=KEY), "api_key", "not known here"),
            (endpoint(api_key_env=KEY), "api_key_env", "never the key itself"),
            (endpoint(api_key_env="gsk_abcdef"), "api_key_env", "never the key itself"),
            (endpoint(api_key_env="1KEY"), "api_key_env", "NAME of an environment variable"),
            (endpoint(url="judge.example"), "url", "such as https://host/v1"),
            (endpoint(url="file:///etc/passwd"), "url", "such as https://host/v1"),
            (endpoint(url=f"https://u:{KEY}@h/v1"), "url", "leave out user, password"),
            (endpoint(url=f"https://h/v1?key={KEY}"), "url", "leave out user, password"),
            (endpoint(url="https://h/v1/chat/completions"), "url", "without /chat/completions"),
            (endpoint(name="My Judge"), "name", "pattern"),
            (endpoint(logprobs="maybe"), "logprobs", "True, False or 'auto'"),
            (endpoint(concurrency=0), "concurrency", "greater than or equal to 1"),
            (endpoint(requests_per_minute=0), "requests_per_minute", "greater than 0"),
            (endpoint(timeout_seconds=float("inf")), "timeout_seconds", "finite"),
            (endpoint(patience_seconds=-1), "patience_seconds", "greater than or equal to 0"),
            (
                endpoint(price={"input_per_million": 1, "output_per_million": 1}),
                "price.currency",
                "is missing",
            ),
            (ensemble("embedded"), "members", "at least 2"),
            (ensemble("a.yaml", "a.yaml"), "members", "name each judge once"),
            (ensemble("embedded", "a.yaml", combine="max"), "combine", "'mean' or 'median'"),
            ("- a\n- b\n", "", "mapping"),
            ("", "", "mapping"),
            ("1: 2\n", "", "mapping"),
            ("kind: [\n", "line 2", "not valid YAML"),
            ("kind: !!python/object:os.system x\n", "line 1", "not valid YAML"),
        ],
    )
    def test_each_names_file_place_and_remedy_but_no_value(
        self, tmp_path: Path, content: object, place: str, says: str
    ) -> None:
        path = write(tmp_path / "judge.yaml", content)
        said = mistake(path)
        assert said.startswith(f"{path}: {place}: " if place else f"{path}: ")
        assert says in said
        assert KEY not in said

    def test_a_missing_file_and_bytes_that_are_no_text(self, tmp_path: Path) -> None:
        assert "No such file" in mistake(tmp_path / "none.yaml")
        (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00kind")
        assert "bytes.yaml" in mistake(tmp_path / "bytes.yaml")


class TestKeys:
    def file(self) -> EndpointFile:
        return EndpointFile.model_validate(endpoint(api_key_env="JUDGE_KEY"))

    def test_the_key_comes_from_the_environment(self) -> None:
        path = Path("j.yaml")
        assert self.file().api_key(path, {"JUDGE_KEY": f" {KEY}\n"}) == KEY
        assert EndpointFile.model_validate(endpoint()).api_key(path, {}) is None

    @pytest.mark.parametrize("value", ["", "  ", "two words", "clé", "a\x00b", "a\nb: c"])
    def test_what_cannot_be_a_key_is_refused_and_not_shown(self, value: str) -> None:
        with pytest.raises(JudgeFileError, match=r"api_key_env: .*JUDGE_KEY") as raised:
            self.file().api_key(Path("j.yaml"), {"JUDGE_KEY": value})
        assert not value.strip() or value not in str(raised.value)


class TestDigests:
    def test_a_digest_covers_what_determines_ratings_and_nothing_else(self) -> None:
        rubric = Rubric.load("default", Path("j.yaml"))

        def digest(**changes: Any) -> str:
            return endpoint_digest(EndpointFile.model_validate(endpoint(**changes)), rubric)

        price = {"input_per_million": 1, "output_per_million": 1, "currency": "EUR"}
        same: list[dict[str, Any]] = [
            {"name": "other"},
            {"api_key_env": "KEY"},
            {"concurrency": 2},
            {"requests_per_minute": 9},
            {"timeout_seconds": 9},
            {"patience_seconds": 9},
            {"price": price},
        ]
        assert {digest(**change) for change in same} == {digest()}
        others: list[dict[str, Any]] = [{"model": "b"}, {"url": "https://b/v1"}, {"logprobs": True}]
        assert len({digest(), *(digest(**change) for change in others)}) == 4
        changed = rubric.model_copy(update={"version": rubric.version + 1})
        file = EndpointFile.model_validate(endpoint())
        assert endpoint_digest(file, changed) != digest()


class TestChoice:
    def load(self, path: Path, tmp_path: Path) -> object:
        return load_judge(Settings(home=tmp_path / "home", judge=str(path)))

    def test_an_endpoint_file_makes_an_endpoint_judge(self, tmp_path: Path) -> None:
        judge = self.load(write(tmp_path / "j.yaml", endpoint()), tmp_path)
        assert isinstance(judge, EndpointJudge)
        assert judge.name == "mine"

    def test_the_digest_that_is_shown_is_the_judge_s(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(tmp_path / "a.yaml", endpoint(name="a", api_key_env="SECRET_OF_A"))
        write(tmp_path / "b.yaml", endpoint(name="b", model="other"))
        for path in (
            tmp_path / "a.yaml",
            write(tmp_path / "e.yaml", ensemble("a.yaml", "b.yaml", combine="median")),
        ):
            current = Settings(home=tmp_path / "home", judge=str(path))
            monkeypatch.delenv("SECRET_OF_A", raising=False)
            shown = describe_judge(current)
            monkeypatch.setenv("SECRET_OF_A", KEY)
            assert load_judge(current).digest == shown.digest
            assert KEY not in json.dumps(describe_judge(current).model_dump())

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (ensemble("a.yaml", "e.yaml"), "is an ensemble; name its members here instead"),
            (ensemble("a.yaml", "./a.yaml"), "is named twice"),
            (ensemble("a.yaml", "none.yaml"), "none.yaml: cannot be read"),
        ],
    )
    def test_members_that_cannot_be(self, tmp_path: Path, content: object, says: str) -> None:
        write(tmp_path / "a.yaml", endpoint())
        with pytest.raises(JudgeFileError, match=says):
            self.load(write(tmp_path / "e.yaml", content), tmp_path)

    def test_a_wrong_rubric_or_key_is_told_before_anything_is_asked(self, tmp_path: Path) -> None:
        with pytest.raises(JudgeFileError, match=r"j\.yaml: rubric: "):
            self.load(write(tmp_path / "j.yaml", endpoint(rubric="none")), tmp_path)
        path = write(tmp_path / "j.yaml", endpoint(api_key_env="NO_SUCH_KEY_HERE"))
        with pytest.raises(JudgeFileError, match=r"j\.yaml: api_key_env: .*NO_SUCH_KEY_HERE"):
            self.load(path, tmp_path)
