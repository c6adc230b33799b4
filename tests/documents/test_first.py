import httpx


def test_a_write_is_read_back(client: httpx.Client) -> None:
    """The shortest way through the whole service works."""
    written = client.put("/v1/documents/notes", json={"value": {"a": 1}, "base": 0})
    assert (written.status_code, written.json()["outcome"]) == (201, "applied")
    assert client.get("/v1/documents/notes").json()["value"] == {"a": 1}
