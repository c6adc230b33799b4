"""The catalogue of levels: published whole, by version, and never by two at once."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.progress.levels import KEPT_CATALOGUES
from app.requests import etag, strong_match
from tests.conftest import ADMIN_TOKEN
from tests.documents.api import refused
from tests.documents.contract import CheckedService, StartService
from tests.sync.database import fetch

ADMIN = "/v1/admin/levels"
INTRO = {"level": "intro-1", "min_correct": 7, "xp_reward": 15, "repeat": "first"}
DRILL = {"level": "drill:a~1", "min_correct": 0, "xp_reward": 1, "repeat": "every"}


@pytest.fixture
def operator(own_service: CheckedService) -> Iterator[httpx.Client]:
    with own_service.operator() as client:
        yield client


def publish(client: httpx.Client, *levels: Any, **more: Any) -> httpx.Response:
    headers = {
        key.replace("_", "-"): more.pop(key) for key in ("if_match", "if_none_match") if key in more
    }
    return client.put(ADMIN, json={"levels": levels, **more}, headers=headers)


def test_before_the_first_catalogue_there_are_no_levels(
    own_service: CheckedService, operator: httpx.Client
) -> None:
    """An app asks before the operator has published; that is no error."""
    with own_service.client() as client:
        answer = client.get("/v1/levels")
    assert answer.json() == {"version": 0, "published_at": None, "levels": []}
    assert operator.get(ADMIN).json() == answer.json()


def test_a_catalogue_is_published_and_read(
    own_service: CheckedService, operator: httpx.Client
) -> None:
    """What a device shows is what an attempt will be worth; the reward's policy may be left out."""
    short = {name: value for name, value in INTRO.items() if name != "repeat"}
    published = publish(operator, short, DRILL)
    assert published.status_code == 200, published.text
    assert published.json()["version"] == 1
    expected = {**published.json(), "levels": [DRILL, INTRO]}
    with own_service.client() as client:
        answer = client.get("/v1/levels")
        assert answer.json() == expected
        assert answer.headers["etag"] == published.headers["etag"]
        assert client.head("/v1/levels").headers["etag"] == answer.headers["etag"]
        held = {"If-None-Match": answer.headers["etag"]}
        assert client.get("/v1/levels", headers=held).status_code == 304
        publish(operator, INTRO)
        again = client.get("/v1/levels", headers=held)
        assert (again.status_code, again.json()["levels"]) == (200, [INTRO])
    assert operator.get(ADMIN, headers={"If-None-Match": again.headers["etag"]}).status_code == 304
    assert operator.get(ADMIN).json() == again.json()


def test_the_same_catalogue_again_is_no_new_version(operator: httpx.Client) -> None:
    """A deployment publishes with each start, and a retry sends what was published already; the
    order of the levels means nothing."""
    first = publish(operator, INTRO, DRILL).json()
    assert publish(operator, DRILL, INTRO).json() == first
    assert publish(operator, DRILL, INTRO, version=0).json() == first
    changed = publish(operator, DRILL, {**INTRO, "xp_reward": 16}, version=1).json()
    assert changed["version"] == 2
    assert publish(operator, DRILL, {**INTRO, "xp_reward": 16}, version=1).json() == changed
    assert publish(operator, INTRO, DRILL).json()["version"] == 3


def test_a_catalogue_may_become_empty(operator: httpx.Client) -> None:
    """The last level is taken away as any other is, and an empty catalogue is not none."""
    assert publish(operator).json()["version"] == 1
    assert publish(operator, INTRO).json()["version"] == 2
    assert publish(operator).json()["version"] == 3
    assert operator.get(ADMIN).json()["levels"] == []


def test_two_operators_do_not_overwrite_each_other(operator: httpx.Client) -> None:
    """Each took the catalogue and changed one level; the second must see the first one's change."""
    seen = publish(operator, INTRO).json()["version"]
    assert publish(operator, INTRO, DRILL, version=seen).status_code == 200
    problem = refused(publish(operator, version=seen), 412, "precondition-failed")
    assert problem["version"] == seen + 1
    assert operator.get(ADMIN).json()["levels"] == [DRILL, INTRO]


def test_conditions_in_headers_are_kept_to(operator: httpx.Client) -> None:
    """A condition that is not understood must not be dropped: the catalogue would be replaced."""
    refused(publish(operator, INTRO, if_match="*"), 412, "precondition-failed")
    tag = publish(operator, INTRO, if_none_match="*").headers["etag"]
    refused(publish(operator, DRILL, if_none_match="*"), 412, "precondition-failed")
    refused(publish(operator, DRILL, if_match="W/" + tag), 412, "precondition-failed")
    refused(publish(operator, DRILL, if_match='"1"'), 412, "precondition-failed")
    refused(publish(operator, DRILL, if_none_match=tag), 400, "invalid-request")
    assert publish(operator, DRILL, if_match=f'"x", {tag}').status_code == 200
    refused(publish(operator, INTRO, if_match=tag), 412, "precondition-failed")


async def test_publishers_at_once_are_one_after_the_other(
    cluster: Any, start_service: StartService
) -> None:
    """Two processes publish in the same moment: each catalogue is whole and has its own version,
    and of those who saw the same version one is told."""
    url = cluster.clone()
    processes = [start_service(url), start_service(url)]
    catalogues = [
        [{**DRILL, "level": f"l{n}-{m}", "xp_reward": n} for m in range(50)] for n in range(12)
    ]

    async def put(number: int, **more: Any) -> httpx.Response:
        async with httpx.AsyncClient(base_url=processes[number % 2].url, timeout=30) as client:
            headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
            body = {"levels": catalogues[number], **more}
            return await client.put(ADMIN, json=body, headers=headers)

    answers = await asyncio.gather(*(put(number) for number in range(6)))
    assert sorted(answer.json()["version"] for answer in answers) == list(range(1, 7))
    answers = await asyncio.gather(*(put(number, version=6) for number in range(6, 12)))
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 5
    rows = await asyncio.to_thread(
        fetch, url, "select version, count(*), count(distinct xp_reward) from levels group by 1"
    )
    assert sorted(tuple(row) for row in rows) == [(version, 50, 1) for version in range(1, 8)]
    (answer,) = (one for one in answers if one.status_code == 200)
    with processes[0].operator() as client:
        newest = client.get(ADMIN).json()
    assert newest["version"] == answer.json()["version"] == 7


@pytest.mark.parametrize(
    ("levels", "path"),
    [
        ([{**INTRO, "level": ""}], "$.levels[0].level"),
        ([{**INTRO, "level": "a" * 129}], "$.levels[0].level"),
        ([INTRO, {**INTRO, "level": "a b"}], "$.levels[1].level"),
        ([{**INTRO, "level": "a\n"}], "$.levels[0].level"),
        ([{**INTRO, "xp_reward": -1}], "$.levels[0].xp_reward"),
        ([{**INTRO, "xp_reward": 1_000_001}], "$.levels[0].xp_reward"),
        ([{**INTRO, "xp_reward": 1.5}], "$.levels[0].xp_reward"),
        ([{**INTRO, "xp_reward": 2**63}], "$.levels[0].xp_reward"),
        ([{**INTRO, "min_correct": -1}], "$.levels[0].min_correct"),
        ([{**INTRO, "min_correct": 100_001}], "$.levels[0].min_correct"),
        ([{**INTRO, "repeat": "always"}], "$.levels[0].repeat"),
        ([{**INTRO, "reward": 1}], "$.levels[0]"),
        ([INTRO, DRILL, INTRO], "$.levels[2].level"),
        ([{"level": "a", "xp_reward": 1}], "$.levels[0]"),
    ],
)
def test_a_bad_level_is_named_and_nothing_is_published(
    service: CheckedService, levels: list[Any], path: str
) -> None:
    """Half a catalogue would make attempts worthless until somebody notices."""
    with service.operator() as client:
        before = client.get(ADMIN).json()
        assert refused(publish(client, *levels), 400, "invalid-request")["path"] == path
        assert client.get(ADMIN).json() == before


def test_a_catalogue_is_bounded(start_service: StartService) -> None:
    """Each process keeps the newest one in memory."""
    with start_service(max_levels=2).operator() as client:
        levels = [{**INTRO, "level": f"l{number}"} for number in range(3)]
        assert refused(publish(client, *levels), 400, "invalid-request")["limit"] == 2
        assert publish(client, *levels[:2]).status_code == 200


def test_old_versions_are_forgotten(own_service: CheckedService, operator: httpx.Client) -> None:
    """Whoever publishes every hour must not fill the tables."""
    for number in range(KEPT_CATALOGUES + 3):
        assert publish(operator, {**INTRO, "xp_reward": number}).json()["version"] == number + 1
    for table in ("catalogues", "levels"):
        (row,) = fetch(own_service.database_url, f"select count(*), min(version) from {table}")
        assert tuple(row) == (KEPT_CATALOGUES, 4)


def test_a_restored_database_is_another_catalogue_of_the_same_version(
    own_service: CheckedService, operator: httpx.Client
) -> None:
    """After a restore version 2 is made a second time; whoever holds the lost one must not be
    told that it still holds, neither a device nor this process."""
    publish(operator, INTRO)
    with own_service.client() as client:
        lost = publish(operator, DRILL)
        assert client.get("/v1/levels").json()["levels"] == [DRILL]
        for sql in (
            "delete from levels where version = 2",
            "delete from catalogues where version = 2",
        ):
            fetch(own_service.database_url, sql)
        assert client.get("/v1/levels").json()["levels"] == [INTRO]
        assert publish(operator, INTRO, DRILL).json()["version"] == 2
        answer = client.get("/v1/levels", headers={"If-None-Match": lost.headers["etag"]})
        assert (answer.status_code, answer.json()["levels"]) == (200, [DRILL, INTRO])
        refused(publish(operator, if_match=lost.headers["etag"]), 412, "precondition-failed")


def test_only_the_operator_publishes(service: CheckedService) -> None:
    """A user who could would decide what attempts are worth."""
    with service.client() as client:
        for method in ("GET", "HEAD", "PUT"):
            assert client.request(method, ADMIN, json={"levels": []}).status_code == 403
        del client.headers["authorization"]
        refused(client.get(ADMIN), 401, "token-missing")
        refused(client.get("/v1/levels"), 401, "token-missing")


def test_the_document_says_whose_token_an_address_takes(service: CheckedService) -> None:
    """A generated client sends one token to the admin routes and another to all else."""
    for address, operations in service.contract.document["paths"].items():
        for operation in operations.values():
            if address.startswith("/v1/"):
                admin = address.startswith("/v1/admin/")
                assert operation["security"] == [{"admin" if admin else "token": []}]
                forbidden = operation["responses"].get("403", {"description": ""})["description"]
                assert ("`admin-only`" in forbidden) == admin
    schemes = service.contract.document["components"]["securitySchemes"]
    assert {one["scheme"] for one in schemes.values()} == {"bearer"}
    assert set(schemes) == {"admin", "token"}


@given(st.text(alphabet='"W/*, a1-', max_size=12), st.sampled_from(["1-2", "a", ""]))
def test_a_tag_matches_itself_and_nothing_else(header: str, tag: str) -> None:
    """If-Match compares whole tags: a part of one, or a weak one, opens nothing."""
    assert strong_match(etag(tag), tag)
    assert strong_match(f'"x-y", {etag(tag)}', tag)
    assert not strong_match("W/" + etag(tag), tag)
    if etag(tag) not in header and header.strip() != "*":
        assert not strong_match(header, tag)
