"""The page about the dashboard tells the truth: its conversation runs."""

import re
from typing import Any

import msgspec

from tests.conftest import Service
from tests.docs.test_examples import ROOT, blocks

PAGE = (ROOT / "docs/how-to/dashboard.md").read_text()


def test_the_dashboard_of_the_page_is_what_its_sync_makes(service: Service) -> None:
    """An app developer copies the shape from here."""
    (request,) = (block for block in blocks(PAGE, "sh") if "/v1/sync" in block)
    body = re.search(r"-d '(.*)'", request, re.DOTALL)
    assert body is not None
    shown, _ = blocks(PAGE, "json")
    with service.client() as client:
        answer = client.post("/v1/sync", content=body[1].encode()).json()
        assert {one["outcome"] for one in answer["results"]} == {"applied"}
        assert {one["outcome"] for one in answer["events"]} == {"accepted"}
        dashboard = client.get("/v1/dashboard").json()
    assert without_times(dashboard) == without_times(msgspec.json.decode(shown))


def without_times(dashboard: dict[str, Any]) -> dict[str, Any]:
    del dashboard["profile"]["last_session_date"]
    for session in dashboard["recent_sessions"]:
        del session["completed_at"]
    return dashboard


def test_the_catalogue_of_the_page_is_published(service: Service) -> None:
    """The file that an operator begins with."""
    _, catalogue = blocks(PAGE, "json")
    with service.operator() as operator:
        answer = operator.put("/v1/admin/levels", content=catalogue.encode())
    assert answer.status_code == 200, answer.text
