"""``notify-test``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from app.cli import output
from app.cli.options import DataDir, Json
from app.errors import UsageError
from app.process.interrupts import raise_on_interrupt

if TYPE_CHECKING:
    from workers.notifications.messages import Message
    from workers.notifications.services import NotificationService

commands = typer.Typer(rich_markup_mode=None)


@commands.command("notify-test")
def notify_test(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Send one message to each service of COUTURECAST_NOTIFY_URLS; 1 if one does not take it."""
    from app.cli.settings import load_settings

    settings, _ = load_settings(data_dir)
    from app.notify_urls import open_services
    from workers.notifications.messages import trial

    services = open_services(settings)
    if not services:
        raise UsageError("is not set", field="COUTURECAST_NOTIFY_URLS", fix="see docs/notifications.md")
    raise_on_interrupt()
    problems = asyncio.run(_send_to_all(services, trial(settings.environment)))
    results = list(zip(services, problems, strict=True))
    document = [{"service": service.label, "problem": problem or None} for service, problem in results]
    text = "\n".join(f"{service.label}: {problem or 'sent'}" for service, problem in results)
    output.print_result(text, {"items": document}, as_json=as_json)
    raise typer.Exit(1 if any(problems) else 0)


async def _send_to_all(services: Sequence[NotificationService], message: Message) -> list[str]:
    return list(await asyncio.gather(*(service.send(message) for service in services)))
