"""`syncline audit`: what does not add up is found, and named."""

import pytest

from tests.cli.conftest import Invoke
from tests.conftest import Cluster, serving
from tests.ledger.wire import record, session, xp
from tests.sync.database import fetch
from tests.sync.wire import put, sync

TAMPERING = [
    ("delete from standings where board = 'xp'", "there is no score on 'xp', and the total is 10"),
    (
        "update standings set listed = false where board = 'xp'",
        "the score on 'xp' is hidden, and `player` says otherwise",
    ),
    ("update totals set amount = amount + 1 where name = 'xp'", "the total 'xp' is 11, and"),
    ("delete from totals where name = 'points'", "the total 'points' is 0, and its events"),
    ("update standings set score = 7 where board = 'xp'", "the score is 7 on 'xp', and the"),
    (
        """update documents set value = '{"events":2,"points":5,"xp":999}' where key = 'totals'""",
        "`totals` shows 999 for 'xp', and the total is 10",
    ),
    (
        """update documents set value = '{"events":2,"points":5}' where key = 'totals'""",
        "`totals` does not show 'xp', and the total is 10",
    ),
    ("delete from documents where key = 'totals'", "`totals` does not show 'points', and the"),
    ("update documents set version = 9 where key = 'notes'", "'notes' is at version 9, and the"),
    ("update documents set value = '8' where key = 'notes'", "'notes' is at version 1, and its"),
    ("delete from revisions where key = 'notes'", "'notes' is at version 1, and the last"),
    ("update heads set seq = seq + 1", "the head is at 4, and the last change is 3"),
    ("update documents set seq = 3", "the head is at 3, and 3 documents share 1 sequences"),
]


def played(cluster: Cluster) -> str:
    """The URL of a database in which two accounts have played."""
    url = cluster.clone()
    with serving(url) as service:
        for account in ("anna", "berta"):
            with service.client(account) as client:
                sync(client, put("notes", {"a": 1}, 0))
                record(client, xp(10), session(5, 2.0))
    return url


def test_a_sound_database_adds_up(invoke: Invoke, cluster: Cluster) -> None:
    """An operator runs it after every restore, and reads one line."""
    url = played(cluster)
    result = invoke("audit", SYNCLINE_DATABASE_URL=url)
    assert (result.exit_code, result.stdout) == (
        0,
        "2 accounts, 6 documents, 10 totals: all add up.\n",
    )
    one = invoke("audit", "anna", SYNCLINE_DATABASE_URL=url)
    assert one.stdout.startswith("1 accounts, 3 documents")


@pytest.mark.parametrize(("change", "sentence"), TAMPERING)
def test_what_was_tampered_with_is_named(
    invoke: Invoke, cluster_18: Cluster, change: str, sentence: str
) -> None:
    """Each promise of the audit is broken once: an audit that misses it proves nothing."""
    url = played(cluster_18)
    where = "account = 'anna'"
    fetch(url, f"{change} and {where}" if "where" in change else f"{change} where {where}")
    result = invoke("audit", SYNCLINE_DATABASE_URL=url)
    assert result.exit_code == 1
    assert f"anna: {sentence}" in result.stdout
    assert "berta" not in result.stdout
    assert invoke("audit", "berta", SYNCLINE_DATABASE_URL=url).exit_code == 0
