"""A response, for the routes and for what goes past the router."""

from typing import NamedTuple

from litestar import Response

JSON = "application/json"
WHOLE = "syncline.whole"
"""Where a scope has, among its extensions, what sends an `Answer` in one piece: it takes one and
says whether it could."""


class Answer(NamedTuple):
    """The names of the headers are in lower case."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    media_type: bytes = JSON.encode()

    def all_headers(self) -> list[tuple[bytes, bytes]]:
        """With those that say what the body is."""
        return [
            (b"content-type", self.media_type),
            (b"content-length", b"%d" % len(self.body)),
            *self.headers,
        ]

    def response(self) -> Response[bytes]:
        headers = {name.decode(): value.decode() for name, value in self.headers}
        return Response(
            self.body, status_code=self.status, headers=headers, media_type=self.media_type.decode()
        )
