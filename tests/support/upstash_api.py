"""Upstash's management API as it is documented, on a free port: its paths, fields, key and errors."""

from __future__ import annotations

import base64
import hmac
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.support.servers import free_port

EMAIL = "ops@example.com"
KEY = "2f0c-the-key-of-the-account-9d41"
PLANS = ("free", "payg", "fixed_250mb", "fixed_1gb")
_START_SECONDS = 20.0


@dataclass
class Fault:
    """A fault of requests whose method and path begin with ``to``, ``times`` times, after ``skip``."""

    to: str
    status: int = 500
    body: Any = None
    """A str is sent as it is, everything else as JSON."""
    headers: dict[str, str] = field(default_factory=dict)
    done: bool = False
    """It is done all the same, and this is the answer."""
    lost: bool = False
    """It is done, and the answer breaks off."""
    seconds: float = 0.0
    """Until it is answered."""
    skip: int = 0
    times: int = 1_000


class Upstash:
    """One account: its databases, and what it was asked."""

    def __init__(self) -> None:
        self.port = free_port()
        self.databases: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, str, Any]] = []
        self.faults: list[Fault] = []
        self._ids = count(1)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v2"

    @property
    def mutations(self) -> list[tuple[str, str, Any]]:
        """Return the requests that change something."""
        return [request for request in self.asked if request[0] != "GET"]

    def named(self, name: str) -> dict[str, Any]:
        (found,) = [database for database in self.databases.values() if database["database_name"] == name]
        return found

    def add(self, name: str, **fields: Any) -> dict[str, Any]:
        """A database that is there."""
        number = next(self._ids)
        made = {
            "database_id": f"id-{number}",
            "database_name": name,
            "region": "global",
            "primary_region": "eu-central-1",
            "read_regions": [],
            "type": "free",
            "state": "active",
            "port": 6379,
            "endpoint": f"quick-fox-{number}",
            "password": f"secret/of@{name}",
            "rest_token": f"token-of-{name}",
            "tls": True,
            "eviction": False,
            "budget": 0,
        } | fields
        self.databases[made["database_id"]] = made
        return made

    def application(self) -> Starlette:
        routes = [
            ("GET", "/redis/databases", self._list),
            ("POST", "/redis/database", self._create),
            ("GET", "/redis/database/{id}", self._get),
            ("POST", "/redis/enable-eviction/{id}", self._set(lambda _: {"eviction": True})),
            ("POST", "/redis/disable-eviction/{id}", self._set(lambda _: {"eviction": False})),
            ("POST", "/redis/enable-tls/{id}", self._set(lambda _: {"tls": True})),
            ("POST", "/redis/{id}/change-plan", self._set(_plan)),
            ("PATCH", "/redis/update-budget/{id}", self._set(lambda body: {"budget": body["budget"]})),
        ]
        return Starlette(
            routes=[
                Route(f"/v2{path}", self._guarded(endpoint), methods=[method])
                for method, path, endpoint in routes
            ]
        )

    def _guarded(self, endpoint: Any) -> Any:
        async def guarded(request: Request) -> Response:
            expected = base64.b64encode(f"{EMAIL}:{KEY}".encode()).decode()
            if not hmac.compare_digest(request.headers.get("Authorization", ""), f"Basic {expected}"):
                return JSONResponse({"error": "Unauthorized"}, 401)
            path = request.url.path.removeprefix("/v2")
            body = await request.json() if await request.body() else None
            self.asked.append((request.method, path, body))
            fault = self._fault(f"{request.method} {path}")
            if fault is None or fault.lost:
                answer: Response = endpoint(request, body)
                return (
                    answer if fault is None else StreamingResponse(_broken(), 200, {"Content-Length": "99"})
                )
            if fault.done:
                endpoint(request, body)
            if fault.seconds:
                time.sleep(fault.seconds)  # noqa: ASYNC251 - nobody else is served meanwhile
            if isinstance(fault.body, str):
                return Response(fault.body, fault.status, fault.headers)
            return JSONResponse(fault.body, fault.status, fault.headers)

        return guarded

    def _fault(self, asked: str) -> Fault | None:
        for fault in self.faults:
            if asked.startswith(fault.to):
                if fault.skip:
                    fault.skip -= 1
                elif fault.times:
                    fault.times -= 1
                    return fault
        return None

    def _list(self, request: Request, body: Any) -> Response:
        return JSONResponse(list(self.databases.values()))

    def _get(self, request: Request, body: Any) -> Response:
        found = self.databases.get(request.path_params["id"])
        return JSONResponse({"error": "database not found"}, 404) if found is None else JSONResponse(found)

    def _create(self, request: Request, body: Any) -> Response:
        required = {"database_name", "platform", "primary_region"}
        optional = {"read_regions", "plan", "budget", "eviction", "tls"}
        if not required <= body.keys() <= required | optional or body["platform"] not in ("aws", "gcp"):
            return JSONResponse({"error": "invalid request"}, 400)
        given = {name: body[name] for name in ("primary_region", "eviction", "tls") if name in body}
        if "budget" in body:
            given["budget"] = body["budget"]
        return JSONResponse(self.add(body["database_name"], type=body.get("plan", "free"), **given))

    def _set(self, fields: Any) -> Any:
        def changed(request: Request, body: Any) -> Response:
            found = self.databases.get(request.path_params["id"])
            if found is None:
                return JSONResponse({"error": "database not found"}, 404)
            found.update(fields(body))
            return JSONResponse("OK")

        return changed


def _plan(body: dict[str, Any]) -> dict[str, Any]:
    assert body["plan_name"] in PLANS
    return {"type": body["plan_name"] if body["plan_name"] in ("free", "payg") else "pro"}


async def _broken() -> AsyncIterator[bytes]:
    yield b'{"database'
    raise ConnectionResetError("the answer is lost")


@contextmanager
def serving() -> Iterator[Upstash]:
    """An account without databases, which answers for the length of a block."""
    upstash = Upstash()
    config = uvicorn.Config(upstash.application(), port=upstash.port, log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + _START_SECONDS
    while not server.started:
        assert time.monotonic() < deadline, "the server does not start"
        time.sleep(0.01)
    try:
        yield upstash
    finally:
        server.should_exit = True
        thread.join(_START_SECONDS)
