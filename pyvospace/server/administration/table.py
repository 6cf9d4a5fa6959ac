"""Every resource of JSON, and the document that describes them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, get_origin

from pydantic import TypeAdapter

from pyvospace import __version__
from pyvospace.server.administration import groups, keys, operation, policies, profile, quotas, storages, trash, users
from pyvospace.server.administration.routes import Needs, Route

if TYPE_CHECKING:
    from pyvospace.server.administration.routes import Asked
    from pyvospace.server.context import Context

_SCHEMAS: Final = "#/components/schemas/{model}"
_BEHIND: Final = {Needs.ADMINISTRATOR: "administrators", Needs.USER: "users", Needs.ANY_TOKEN: "profile"}


async def get_document(_context: Context, _asked: Asked) -> dict[str, Any]:
    """Give this document (OpenAPI 3.1)."""
    return document()


ROUTES: Final[tuple[Route, ...]] = (
    Route("GET", "/admin", get_document, dict[str, Any]),
    *profile.ROUTES,
    *keys.ROUTES,
    *groups.ROUTES,
    *users.ROUTES,
    *quotas.ROUTES,
    *policies.ROUTES,
    *trash.ROUTES,
    *operation.ROUTES,
    *storages.ROUTES,
)
"""All of them."""


@cache
def document() -> dict[str, Any]:
    """Describe all resources (OpenAPI 3.1)."""
    schemas: dict[str, Any] = {}
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "pyvospace: profile, groups and administration",
            "version": __version__,
            "description": "Failures are text/plain, as everywhere: the name of the fault, a space, the details.",
        },
        "security": [{"bearer": []}, {"basic": []}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic"},
            },
        },
    }


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "summary": (route.work.__doc__ or "").splitlines()[0],
        "operationId": route.work.__name__,
        "tags": [_BEHIND[route.needs]],
        "responses": dict(_responses(route, schemas)),
    }
    parameters = [
        *({"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in route.places),
        *({"name": name, "in": "query", "schema": {"type": "string"}} for name in route.query),
    ]
    if parameters:
        found["parameters"] = parameters
    if route.body is not None:
        found["requestBody"] = {"required": True, "content": _content(route.body, schemas, mode="validation")}
    return found


def _responses(route: Route, schemas: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    if route.answer is None:
        yield "204", {"description": "Done."}
    else:
        made = route.method == "POST"
        for status in ("201",) if made else ("200", "201") if route.method == "PUT" else ("200",):
            words = HTTPStatus(int(status)).phrase
            yield status, {"description": words, "content": _content(route.answer, schemas, mode="serialization")}
    yield "default", {"description": "A fault.", "content": {"text/plain": {"schema": {"type": "string"}}}}


def _content(kind: Any, schemas: dict[str, Any], *, mode: Any) -> dict[str, Any]:
    schema = TypeAdapter(kind).json_schema(ref_template=_SCHEMAS, mode=mode)
    schemas.update(schema.pop("$defs", {}))
    if (name := schema.get("title")) and get_origin(kind) is None:
        schemas[name] = schema
        schema = {"$ref": _SCHEMAS.format(model=name)}
    return {"application/json": {"schema": schema}}
