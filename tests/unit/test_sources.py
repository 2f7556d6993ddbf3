"""Source URIs: which are read, which are refused, and what an allow-list covers."""

from __future__ import annotations

import string
from pathlib import Path

import fsspec
import pytest
from hypothesis import example, given
from hypothesis import settings as search
from hypothesis import strategies as st
from pydantic import ValidationError

from gate.admission import admit
from gate.errors import PathOutsideRootError
from gate.settings import Settings
from gate.sources import (
    OBJECT_STORES,
    HubSource,
    Source,
    SourceNotAllowedError,
    SourceSyntaxError,
    StoreSource,
    UploadSource,
    is_allowed,
    is_uri,
    parse_rule,
    parse_source,
    require_allowed,
)

DIGEST = "sha256:" + "0f" * 32
PLAIN = string.ascii_letters + string.digits
names = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9]|[._-](?![._-])){0,20}[A-Za-z0-9]", fullmatch=True)
buckets = st.from_regex(r"[a-z0-9][a-z0-9-]{1,20}[a-z0-9]", fullmatch=True)
segments = st.text(PLAIN + "._=+,@~-", min_size=1, max_size=20).filter(
    lambda s: s not in {".", ".."}
)
paths = st.lists(segments, min_size=1, max_size=5).map(tuple)
stores = st.builds(StoreSource, st.sampled_from(OBJECT_STORES), buckets, paths)
revisions = st.from_regex(
    r"[A-Za-z0-9]([A-Za-z0-9]|[./-](?![./-])){0,20}[A-Za-z0-9]", fullmatch=True
)
hubs = st.builds(HubSource, names, names, revisions)
sources: st.SearchStrategy[Source] = st.one_of(stores, hubs, st.just(UploadSource(DIGEST)))


@search(deadline=None)
@given(sources)
def test_a_source_is_read_back_as_itself(source: Source) -> None:
    assert is_uri(str(source))
    assert parse_source(str(source)) == source


@pytest.mark.parametrize(
    ("uri", "source"),
    [
        ("hf://org/name@v1.0", HubSource("org", "name", "v1.0")),
        ("hf://org/name", HubSource("org", "name", "main")),
        ("hf://Org/na.me_x@refs/pr/1", HubSource("Org", "na.me_x", "refs/pr/1")),
        ("s3://bucket/a/b/", StoreSource("s3", "bucket", ("a", "b"))),
        (
            "gs://my_bucket.x/run=3/m.tar.gz",
            StoreSource("gs", "my_bucket.x", ("run=3", "m.tar.gz")),
        ),
        (f"upload://{DIGEST}", UploadSource(DIGEST)),
    ],
)
def test_what_a_uri_means(uri: str, source: Source) -> None:
    assert parse_source(uri) == source


def test_an_archive_is_told_from_a_prefix_by_its_name() -> None:
    for name in ("m.tar", "m.tar.gz", "m.tgz", "m.ZIP"):
        assert parse_source(f"s3://bucket/{name}") == StoreSource("s3", "bucket", (name,))
        assert StoreSource("s3", "bucket", (name,)).is_archive
    assert not StoreSource("s3", "bucket", ("m",)).is_archive


REFUSED = {
    "file of this machine": "file:///etc/passwd",
    "file without slashes": "file:/etc/passwd",
    "memory": "memory://models/x",
    "chained": "simplecache::s3://bucket/x",
    "zip of a file": "zip://a::file:///etc/passwd",
    "local": "local://etc",
    "web": "https://example.com/model.tar",
    "upper-case scheme": "S3://bucket/x",
    "one slash": "s3:/bucket/x",
    "whole bucket": "s3://bucket",
    "whole bucket with a slash": "s3://bucket/",
    "no bucket": "s3:///x",
    "upper-case bucket": "s3://Bucket/x",
    "dots in bucket": "s3://a..b/x",
    "user info": "s3://user:password@bucket/x",
    "user": "s3://user@bucket/x",
    "port": "s3://bucket:80/x",
    "parent": "s3://bucket/../other/x",
    "parent at the end": "s3://bucket/x/..",
    "here": "s3://bucket/./x",
    "empty part": "s3://bucket//x",
    "empty part at the end": "s3://bucket/x//",
    "only slashes": "s3://bucket//",
    "encoded slash": "s3://bucket/a%2fb",
    "encoded dots": "s3://bucket/%2e%2e/x",
    "backslash": "s3://bucket/a\\b",
    "wildcard": "s3://bucket/*",
    "query": "s3://bucket/x?versionId=1",
    "fragment": "s3://bucket/x#y",
    "space": "s3://bucket/a b",
    "line break": "s3://bucket/x\n",
    "nul": "s3://bucket/x\0",
    "unicode slash": "s3://bucket/a\u2215b",
    "full-width dots": "s3://bucket/\uff0e\uff0e/x",
    "unicode bucket": "s3://b\u00fccket/x",
    "no name": "hf://org",
    "three names": "hf://org/name/more",
    "empty revision": "hf://org/name@",
    "parent as revision": "hf://org/name@..",
    "parent in revision": "hf://org/name@a/../b",
    "encoded revision": "hf://org/name@a%2Fb",
    "two revisions": "hf://org/name@a@b",
    "dots as name": "hf://org/..",
    "dots as org": "hf://../name",
    "host as org": "hf://huggingface.co:443/name",
    "short upload": "upload://sha256:abc",
    "upper-case upload": "upload://sha256:" + "AB" * 32,
    "upload by path": "upload://../../etc",
    "too long": "s3://bucket/" + "/".join(["x" * 200] * 20),
}


@pytest.mark.parametrize("uri", REFUSED.values(), ids=list(REFUSED))
def test_a_uri_is_refused_for(uri: str) -> None:
    assert is_uri(uri)
    with pytest.raises(SourceSyntaxError):
        parse_source(uri)


ODD = st.lists(
    st.sampled_from([*"/:@%?#\\*.~ \0\n[]", "..", "%2f", "\u2215", "\uff0e", "a", "B"])
).map("".join)


@search(deadline=None)
@given(
    st.builds(
        "{}{}{}".format, st.sampled_from(["s3://", "hf://", "gs://b/", "upload://"]), ODD, ODD
    )
)
@example("s3://bucket/a/../b")
def test_whatever_is_read_has_only_plain_parts(uri: str) -> None:
    try:
        source = parse_source(uri)
    except SourceSyntaxError:
        return
    parts = source.digest.split(":") if isinstance(source, UploadSource) else list(source.place[1:])
    for part in parts:
        assert part not in {"", ".", ".."}
        assert part.isascii()
        assert not set(part) & set("/\\%?#*[]: \0\n")


def test_every_scheme_by_which_fsspec_reaches_this_machine_is_refused() -> None:
    local = {
        "file",
        "local",
        "memory",
        "zip",
        "tar",
        "dir",
        "simplecache",
        "filecache",
        "blockcache",
    }
    assert local <= set(fsspec.available_protocols())
    for scheme in set(fsspec.available_protocols()) - {*OBJECT_STORES, "hf"}:
        for uri in (f"{scheme}://bucket/x", f"{scheme}://bucket/x::s3://bucket/y"):
            with pytest.raises(SourceSyntaxError):
                parse_source(uri)
        with pytest.raises(SourceSyntaxError):
            parse_rule(f"{scheme}://bucket")


@pytest.mark.parametrize("path", ["/models/a", "models/a", "./a", "../a", "/a/s3://b", "C:x", ""])
def test_a_path_is_no_uri(path: str) -> None:
    assert not is_uri(path)


@search(deadline=None)
@given(stores | hubs)
def test_no_entries_allow_nothing(source: StoreSource | HubSource) -> None:
    assert not is_allowed(source, [])


@search(deadline=None)
@given(stores, st.integers(0, 5))
def test_an_entry_covers_what_is_under_it(source: StoreSource, depth: int) -> None:
    rule = "/".join([f"{source.scheme}://{source.bucket}", *source.path[:depth]])
    assert is_allowed(source, [rule])


@search(deadline=None)
@given(stores, paths)
def test_an_entry_covers_whole_names_only(source: StoreSource, path: tuple[str, ...]) -> None:
    rule = "/".join([f"{source.scheme}://{source.bucket}", *path])
    other = StoreSource(source.scheme, source.bucket, (*path[:-1], path[-1] + "x", *source.path))
    assert not is_allowed(other, [rule])
    assert not is_allowed(StoreSource(source.scheme, source.bucket + "x", path), [rule])


@search(deadline=None)
@given(hubs)
def test_a_hub_is_allowed_by_organisation_or_repository(source: HubSource) -> None:
    assert is_allowed(source, [f"hf://{source.org}"])
    assert is_allowed(source, [f"hf://{source.repository}"])
    assert not is_allowed(source, [f"hf://{source.org}x", f"hf://{source.org}/{source.name}x"])


def test_another_scheme_is_not_covered() -> None:
    assert not is_allowed(StoreSource("gs", "bucket", ("x",)), ["s3://bucket"])


def test_a_refusal_names_the_source_and_the_setting() -> None:
    with pytest.raises(SourceNotAllowedError, match=r"s3://bucket/x .*GATE_ALLOWED_SOURCES"):
        require_allowed(StoreSource("s3", "bucket", ("x",)), ["s3://other"])


def test_uploads_need_no_entry() -> None:
    require_allowed(UploadSource(DIGEST), [])


@pytest.mark.parametrize(
    "rule", ["file:///", "s3://", "s3://*", "hf://", "*", "", "s3://b/../c", "/x"]
)
def test_settings_with_an_entry_that_is_none_do_not_start(rule: str) -> None:
    with pytest.raises(ValidationError, match="allowed_sources"):
        Settings(allowed_sources=[rule])


def test_intake_admits_what_is_allowed_and_nothing_else(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, allowed_sources=["s3://models/releases"])
    assert admit("s3://models/releases/7/", settings) == "s3://models/releases/7"
    for outside in ("s3://models/drafts/7", "gs://models/releases/7", "hf://org/name"):
        with pytest.raises(PathOutsideRootError):
            admit(outside, settings)
