"""A database that went away: what is certain of a read, and what is not of a write."""

from urllib.parse import urlsplit

from tests.documents.api import path, put, refused
from tests.documents.contract import StartService
from tests.sync.database import administer


def test_reads_and_writes_are_told_different_things(start_service: StartService) -> None:
    """A promise that was none: "nothing was changed for certain". A read changes nothing at all,
    and has no ids."""
    service = start_service()
    with service.client() as client:
        put(client, "k", 1)
        name = urlsplit(service.database_url).path.removeprefix("/")
        administer(service.database_url, f'drop database "{name}" with (force)')
        for method, address in (
            ("GET", path("k")),
            ("HEAD", path("k")),
            ("GET", "/v1/documents"),
            ("PUT", path("k")),
            ("POST", "/v1/sync"),
        ):
            body = {"PUT": {"value": 2}, "POST": {}}.get(method)
            answer = client.request(method, address, json=body)
            assert int(answer.headers["retry-after"]) > 0
            if method == "HEAD":
                assert (answer.status_code, answer.content) == (503, b"")
                continue
            detail = refused(answer, 503, "database-unavailable")["detail"]
            assert ("with the same ids" in detail) == (method != "GET")
            assert ("not certain" in detail) == (method != "GET")
