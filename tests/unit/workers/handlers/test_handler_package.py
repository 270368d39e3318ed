"""The package that a team's interpreter runs: its syntax, what it imports, and its tools for tests."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import couturecast_handlers
from couturecast_handlers import PermanentError, Queue, run_for_test

FILES = sorted(Path(couturecast_handlers.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_is_python_3_9_and_imports_the_standard_library_only(file: Path) -> None:
    tree = ast.parse(file.read_text(), feature_version=(3, 9))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    }
    assert imported <= sys.stdlib_module_names | {"couturecast_handlers"}


def test_what_handlers_import_of_it_costs_next_to_nothing() -> None:
    program = "import json, sys; before = set(sys.modules); import couturecast_handlers, sys;" + (
        "print(json.dumps(sorted(name for name in set(sys.modules) - before)))"
    )
    folder = Path(couturecast_handlers.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, check=True)
    imported = set(json.loads(done.stdout))
    assert "couturecast_handlers" in imported
    assert not imported & {"asyncio", "inspect", "couturecast_handlers.process"}


async def extract(ctx: dict[str, Any], item_id: str, fails: bool = False) -> dict[str, Any]:
    """A handler of a team."""
    await ctx["job"].update(progress=0.5)
    await ctx["queue"].enqueue("fan_out_alert", alert_id="a")
    if fails:
        raise PermanentError("no such cloth")
    return {"item_id": item_id, "attempt": ctx["job"].attempts}


def extract_plainly(ctx: dict[str, Any], item_id: str) -> dict[str, Any]:
    """The same as a plain function."""
    ctx["job"].update(progress=0.5)
    return {"item_id": item_id, "attempt": ctx["job"].attempts}


@pytest.mark.parametrize(
    ("verb", "fields", "says"),
    [
        ("update", {"meta": ["no dict"]}, "update: meta: use a dict, not list"),
        ("update", {"progress": "half"}, "update: progress: use a number from 0 to 1, not str"),
        ("update", {"progress": 50}, "update: progress: use a number from 0 to 1, not 50"),
        ("update", {"progress": float("nan")}, "update: progress: use a number from 0 to 1, not nan"),
        ("enqueue", {"key": 5}, "enqueue: key: use a string, not int"),
        (
            "enqueue",
            {"scheduled": datetime.now(UTC)},
            "enqueue: scheduled: use a Unix time, in seconds, not datetime",
        ),
        (
            "enqueue",
            {"scheduled": float("nan")},
            "enqueue: scheduled: use a Unix time, in seconds, not nan",
        ),
    ],
)
def test_what_a_handler_asks_wrongly_is_one_line(verb: str, fields: dict[str, Any], says: str) -> None:
    def asks(ctx: dict[str, Any]) -> None:
        ctx["job"].update(**fields) if verb == "update" else ctx["queue"].enqueue("fan_out_alert", **fields)

    with pytest.raises((TypeError, ValueError)) as caught:
        run_for_test(asks)
    assert str(caught.value) == says


def test_a_team_tests_its_handler_without_an_appliance() -> None:
    assert run_for_test(extract, attempt=2, item_id="dress-1") == {"item_id": "dress-1", "attempt": 2}
    assert run_for_test(extract_plainly, item_id="dress-1") == {"item_id": "dress-1", "attempt": 1}
    with pytest.raises(PermanentError):
        run_for_test(extract, item_id="dress-1", fails=True)
    with pytest.raises(TypeError):
        run_for_test(extract, item_id=object())


class Extractor:
    """A handler that is an object."""

    async def __call__(self, ctx: dict[str, Any], **payload: Any) -> dict[str, Any]:
        await ctx["job"].update(progress=0.5)
        await ctx["queue"].enqueue("fan_out_alert", **payload)
        return payload


def test_an_object_that_can_be_awaited_when_it_is_called_is_tested_like_a_function() -> None:
    assert run_for_test(Extractor(), item_id="a") == {"item_id": "a"}


def test_a_field_of_a_payload_may_be_called_as_the_first_argument_of_ours() -> None:
    payload = {"function": "a", "job": 1, "queue": 2}
    assert run_for_test(lambda _ctx, **fields: fields, **payload) == payload


def test_a_job_with_a_field_self_can_be_enqueued() -> None:
    asked: list[Any] = []
    Queue("test", lambda verb, fields: asked.append((verb, fields["kwargs"]))).enqueue("f", self=1)
    assert asked == [("enqueue", {"self": 1})]
