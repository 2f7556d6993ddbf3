"""Who gets the metrics, and what is on their page while the database is away."""

from __future__ import annotations

from prometheus_client import REGISTRY
from sqlalchemy.schema import DropTable
from unit.access.door import Door, problem

from gate.access.scopes import Scope
from gate.store.database import metadata


def test_the_other_metrics_are_there_when_the_waivers_cannot_be_counted(door: Door) -> None:
    assert "emgate_waivers_active" in door.call("GET", "/metrics").text
    key = door.key(Scope.READ)
    with door.database.begin() as connection:
        connection.exec_driver_sql("DROP TABLE waivers")
    got = door.call("GET", "/metrics", key)
    assert got.status_code == 200
    assert "emgate_waivers_active" not in got.text
    assert "emgate_record_up 0.0" in got.text
    assert 'emgate_submissions{state="queued"} 0.0' in got.text


def lose_database(door: Door) -> None:
    """Every table is gone, as far as queries can tell."""
    with door.database.begin() as connection:
        for table in reversed(metadata().sorted_tables):
            connection.execute(DropTable(table))


def test_who_scraped_lately_gets_the_metrics_while_the_database_is_away(door: Door) -> None:
    scraper, other = door.key(Scope.READ), door.key(Scope.READ, name="other")
    submitter = door.key(Scope.SUBMIT, name="submitter")
    assert door.call("GET", "/metrics", scraper).status_code == 200
    assert problem(door.call("GET", "/metrics", submitter), 403)
    lose_database(door)

    page = door.call("GET", "/metrics", scraper)

    assert page.status_code == 200
    assert "emgate_http_requests_total" in page.text
    assert "emgate_record_up 0.0" in page.text
    assert door.call("GET", "/v1/submissions", scraper).status_code >= 500
    for stranger in (None, other, submitter):
        assert door.call("GET", "/metrics", stranger).status_code != 200


def test_a_scraper_that_was_refused_is_not_remembered(door: Door) -> None:
    scraper = door.key(Scope.READ)
    assert door.call("GET", "/metrics", scraper).status_code == 200
    door.keys.revoke(scraper.id, "cli:ada")
    assert problem(door.call("GET", "/metrics", scraper), 401)
    lose_database(door)
    assert door.call("GET", "/metrics", scraper).status_code != 200


def test_without_keys_this_machine_gets_the_metrics_while_the_database_is_away(door: Door) -> None:
    assert door.call("GET", "/metrics").status_code == 200
    lose_database(door)
    assert "emgate_record_up 0.0" in door.call("GET", "/metrics").text
    proxied = door.call("GET", "/metrics", headers={"X-Forwarded-For": "203.0.113.9"})
    assert proxied.status_code == 401


def test_a_request_counts_by_route_and_status_also_when_it_is_refused(door: Door) -> None:
    door.key(Scope.READ)

    def counted(**labels: str) -> float:
        return REGISTRY.get_sample_value("emgate_http_requests_total", labels) or 0.0

    open_before = counted(method="GET", route="/health", status="200")
    refused_before = counted(method="GET", route="none", status="401")
    door.call("GET", "/health")
    door.call("GET", "/v1/submissions")
    assert counted(method="GET", route="/health", status="200") == open_before + 1
    assert counted(method="GET", route="none", status="401") == refused_before + 1
