"""Documents over HTTP: decode, call, answer."""

from typing import Annotated, Any, NamedTuple

import msgspec
from litestar import Request, Response, delete, patch, post, put, route
from litestar.di import NamedDependency
from litestar.params import FromPath
from msgspec import UNSET, Meta, Raw

from app.answer import JSON, Answer
from app.auth.types import Principal
from app.documents.decide import view
from app.documents.documents import Documents, wire_receipt
from app.documents.model import Decision, Mutation
from app.documents.mutations import delete_mutation, restore_mutation
from app.documents.types import (
    DeleteQuery,
    DocumentList,
    DocumentView,
    PatchDocument,
    PutDocument,
    RestoreBody,
    RevisionList,
    RevisionView,
    WriteResult,
    require_key,
)
from app.errors import Code
from app.openapi import Description, Header
from app.requests import (
    NoQuery,
    creates_only,
    decode_body,
    decode_query,
    etag,
    if_match,
    none_match,
    prefers_minimal,
    read_body,
)

_encode = msgspec.json.Encoder().encode

Asking = Request[Principal, Any, Any]


class Conditions(NamedTuple):
    """The headers of a request that the routes of one document look at."""

    if_match: str | None = None
    if_none_match: str | None = None
    prefer: str | None = None

    @classmethod
    def of(cls, request: Asking) -> "Conditions":
        headers = request.headers
        return cls(headers.get("if-match"), headers.get("if-none-match"), headers.get("prefer"))


NO_CONDITIONS = Conditions()


class ReceiptQuery(msgspec.Struct, forbid_unknown_fields=True):
    receipt: Annotated[bool, Meta(description="Explain how the result came about")] = False


IF_MATCH = Header("If-Match", 'Write only if the version is this one, such as "7"')
IF_NONE_MATCH = Header("If-None-Match", "`*`: create only; on a read, versions already held")
PREFER = Header("Prefer", "`return=minimal` leaves the value out of the answer")
ETAG = Header("ETag", "The version, quoted")
PREFERENCE_APPLIED = Header(
    "Preference-Applied", "`return=minimal`, where that was asked for", always=False
)

WRITE_PROBLEMS = (
    Code.MALFORMED_JSON,
    Code.INVALID_REQUEST,
    Code.INVALID_KEY,
    Code.BODY_TOO_LARGE,
    Code.UNSUPPORTED_ENCODING,
    Code.INVALID_VALUE,
    Code.WRONG_TYPE,
    Code.DEVICE_REQUIRED,
    Code.ID_REUSED,
    Code.RULE_FAILED,
    Code.RULE_MISMATCH,
    Code.DOCUMENT_TOO_LARGE,
    Code.TOO_MANY_DOCUMENTS,
    Code.OVERLOADED,
    Code.DATABASE_UNAVAILABLE,
    Code.SHUTTING_DOWN,
)


@put(
    "/v1/documents/{key:str}",
    opt=Description(
        "Write a document, merged with what others wrote",
        body=PutDocument,
        query=ReceiptQuery,
        answers={200: WriteResult, 201: WriteResult},
        problems=(
            *WRITE_PROBLEMS,
            Code.BASE_UNKNOWN,
            Code.CONFLICT,
            Code.SERVER_OWNED,
            Code.PRECONDITION_FAILED,
        ),
        request_headers=(IF_MATCH, IF_NONE_MATCH, PREFER),
        response_headers=(ETAG, PREFERENCE_APPLIED),
    ).opt(),
)
async def put_document(
    key: FromPath[str], request: Asking, documents: NamedDependency[Documents]
) -> Response[bytes]:
    require_key(key)
    query = decode_query(request.query_params, ReceiptQuery)
    text = await read_body(request)
    conditions = Conditions.of(request)
    account, receipt = request.user.account, query.receipt
    return (await put_answer(documents, account, key, text, conditions, receipt)).response()


async def put_answer(
    documents: Documents,
    account: str,
    key: str,
    text: bytes,
    conditions: Conditions = NO_CONDITIONS,
    receipt: bool = False,
) -> Answer:
    """Writes the document that the text of a body holds."""
    documents.intake.refuse_long(text)
    async with documents.gate.passing(account, len(text)):
        body = decode_body(text, PutDocument)
        mutation = documents.intake.put(key, body, documents.clock())
        mutation.receipt = receipt
        if conditions is not NO_CONDITIONS:
            _demand(mutation, conditions)
            if isinstance(mutation.if_match, int) and mutation.base is None:
                mutation.base = mutation.if_match
        decision = await documents.write(account, mutation)
        return _written(decision, conditions, receipt=receipt)


def _demand(mutation: Mutation, conditions: Conditions) -> None:
    mutation.if_match = if_match(conditions.if_match)
    mutation.if_none_match = creates_only(conditions.if_none_match)


@patch(
    "/v1/documents/{key:str}",
    opt=Description(
        "Apply operations to the current document, once",
        body=PatchDocument,
        requires=("id",),
        query=ReceiptQuery,
        answers={200: WriteResult, 201: WriteResult},
        problems=(
            *WRITE_PROBLEMS,
            Code.ID_REQUIRED,
            Code.INVALID_OPERATION,
            Code.DOCUMENT_NOT_FOUND,
            Code.SERVER_OWNED,
            Code.PRECONDITION_FAILED,
        ),
        request_headers=(IF_MATCH, IF_NONE_MATCH, PREFER),
        response_headers=(ETAG, PREFERENCE_APPLIED),
    ).opt(),
)
async def patch_document(
    key: FromPath[str], request: Asking, documents: NamedDependency[Documents]
) -> Response[bytes]:
    require_key(key)
    query = decode_query(request.query_params, ReceiptQuery)
    text = await read_body(request)
    documents.intake.refuse_long(text)
    account, conditions = request.user.account, Conditions.of(request)
    async with documents.gate.passing(account, len(text)):
        body = decode_body(text, PatchDocument)
        mutation = documents.intake.patch(key, body, documents.clock())
        mutation.receipt = query.receipt
        _demand(mutation, conditions)
        decision = await documents.write(account, mutation)
        return _written(decision, conditions, receipt=query.receipt).response()


@delete(
    "/v1/documents/{key:str}",
    status_code=200,
    opt=Description(
        "Delete a document; a tombstone stays",
        query=DeleteQuery,
        answers={200: WriteResult},
        problems=(
            Code.INVALID_REQUEST,
            Code.INVALID_KEY,
            Code.ID_REUSED,
            Code.DOCUMENT_NOT_FOUND,
            Code.SERVER_OWNED,
            Code.PRECONDITION_FAILED,
            Code.OVERLOADED,
            Code.DATABASE_UNAVAILABLE,
            Code.SHUTTING_DOWN,
        ),
        request_headers=(IF_MATCH, IF_NONE_MATCH, PREFER),
        response_headers=(ETAG, PREFERENCE_APPLIED),
    ).opt(),
)
async def delete_document(
    key: FromPath[str], request: Asking, documents: NamedDependency[Documents]
) -> Response[bytes]:
    require_key(key)
    query = decode_query(request.query_params, DeleteQuery)
    mutation = delete_mutation(key, query, documents.clock())
    conditions = Conditions.of(request)
    _demand(mutation, conditions)
    return _written(await documents.write(request.user.account, mutation), conditions).response()


@route(
    "/v1/documents/{key:str}",
    http_method=["GET", "HEAD"],
    opt=Description(
        "Read a document",
        query=NoQuery,
        answers={200: DocumentView, 304: None},
        problems=(
            Code.INVALID_REQUEST,
            Code.INVALID_KEY,
            Code.DOCUMENT_NOT_FOUND,
            Code.DOCUMENT_DELETED,
            Code.DATABASE_UNAVAILABLE,
        ),
        request_headers=(IF_NONE_MATCH,),
        response_headers=(ETAG,),
    ).opt(),
)
async def read_document(
    key: FromPath[str], request: Asking, documents: NamedDependency[Documents]
) -> Response[bytes]:
    require_key(key)
    decode_query(request.query_params, NoQuery)
    answer = await get_answer(documents, request.user.account, key, Conditions.of(request))
    return answer.response()


async def get_answer(
    documents: Documents, account: str, key: str, conditions: Conditions = NO_CONDITIONS
) -> Answer:
    """Reads a document."""
    documents.gate.note(account)
    document = await documents.read(account, key)
    headers = [(b"etag", etag(document.version).encode())]
    if none_match(conditions.if_none_match, document.version):
        return Answer(304, headers, b"")
    return Answer(200, headers, _encode(view(document)))


@route(
    "/v1/documents",
    http_method=["GET", "HEAD"],
    opt=Description(
        "List the documents",
        query=NoQuery,
        answers={200: DocumentList},
        problems=(Code.INVALID_REQUEST, Code.DATABASE_UNAVAILABLE),
    ).opt(),
)
async def list_documents(request: Asking, documents: NamedDependency[Documents]) -> Response[bytes]:
    decode_query(request.query_params, NoQuery)
    return _json(await documents.list(request.user.account))


@route(
    "/v1/documents/{key:str}/revisions",
    http_method=["GET", "HEAD"],
    opt=Description(
        "List the kept versions of a document, newest first",
        query=NoQuery,
        answers={200: RevisionList},
        problems=(
            Code.INVALID_REQUEST,
            Code.INVALID_KEY,
            Code.DOCUMENT_NOT_FOUND,
            Code.DATABASE_UNAVAILABLE,
        ),
    ).opt(),
)
async def list_revisions(
    key: FromPath[str], request: Asking, documents: NamedDependency[Documents]
) -> Response[bytes]:
    require_key(key)
    decode_query(request.query_params, NoQuery)
    return _json(await documents.revisions(request.user.account, key))


@route(
    "/v1/documents/{key:str}/revisions/{version:str}",
    http_method=["GET", "HEAD"],
    opt=Description(
        "Read a kept version of a document",
        query=ReceiptQuery,
        answers={200: RevisionView},
        problems=(
            Code.INVALID_REQUEST,
            Code.INVALID_KEY,
            Code.REVISION_NOT_FOUND,
            Code.RULE_FAILED,
            Code.DATABASE_UNAVAILABLE,
        ),
    ).opt(),
)
async def read_revision(
    key: FromPath[str],
    version: FromPath[str],
    request: Asking,
    documents: NamedDependency[Documents],
) -> Response[bytes]:
    require_key(key)
    query = decode_query(request.query_params, ReceiptQuery)
    number = decode_query({"version": version}, RevisionPath).version
    account = request.user.account
    return _json(await documents.revision(account, key, number, receipt=query.receipt))


@post(
    "/v1/documents/{key:str}/revisions/{version:str}/restore",
    status_code=200,
    opt=Description(
        "Make a kept version the current one",
        body=RestoreBody,
        body_required=False,
        query=NoQuery,
        answers={200: WriteResult, 201: WriteResult},
        problems=(
            Code.MALFORMED_JSON,
            Code.INVALID_REQUEST,
            Code.INVALID_KEY,
            Code.BODY_TOO_LARGE,
            Code.UNSUPPORTED_ENCODING,
            Code.ID_REUSED,
            Code.DOCUMENT_NOT_FOUND,
            Code.DOCUMENT_TOO_LARGE,
            Code.REVISION_NOT_FOUND,
            Code.REVISION_DELETED,
            Code.RULE_FAILED,
            Code.SERVER_OWNED,
            Code.PRECONDITION_FAILED,
            Code.OVERLOADED,
            Code.DATABASE_UNAVAILABLE,
            Code.SHUTTING_DOWN,
        ),
        request_headers=(IF_MATCH, IF_NONE_MATCH, PREFER),
        response_headers=(ETAG, PREFERENCE_APPLIED),
    ).opt(),
)
async def restore_revision(
    key: FromPath[str],
    version: FromPath[str],
    request: Asking,
    documents: NamedDependency[Documents],
) -> Response[bytes]:
    require_key(key)
    decode_query(request.query_params, NoQuery)
    number = decode_query({"version": version}, RevisionPath).version
    body = decode_body(await read_body(request) or b"{}", RestoreBody)
    mutation = restore_mutation(key, number, body, documents.clock())
    conditions = Conditions.of(request)
    _demand(mutation, conditions)
    return _written(await documents.write(request.user.account, mutation), conditions).response()


class RevisionPath(msgspec.Struct):
    version: Annotated[int, Meta(ge=1, le=2**53 - 1)]


ROUTES = [
    put_document,
    patch_document,
    delete_document,
    read_document,
    list_documents,
    list_revisions,
    read_revision,
    restore_revision,
]


def _json(answer: Any) -> Response[bytes]:
    return Response(_encode(answer), status_code=200, media_type=JSON)


def _written(decision: Decision, conditions: Conditions, *, receipt: bool = False) -> Answer:
    document = decision.document
    assert document is not None
    assert decision.outcome is not None
    headers = [(b"etag", etag(document.version).encode())]
    minimal = prefers_minimal(conditions.prefer)
    if minimal:
        headers.append((b"preference-applied", b"return=minimal"))
    result = WriteResult(
        key=document.key,
        version=document.version,
        deleted=document.deleted,
        outcome=decision.outcome,
        updated_at=document.updated_at_ms,
        value=UNSET if minimal else Raw(document.stored.value or b"null"),
        receipt=wire_receipt(decision.receipt or []) if receipt else UNSET,
    )
    return Answer(201 if decision.created else 200, headers, _encode(result))
