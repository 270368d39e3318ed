"""Makes the services that COUTURECAST_NOTIFY_URLS names."""

from __future__ import annotations

from app.errors import UsageError
from app.settings import Settings, variable_name
from workers.errors import NotifyUrlError
from workers.notifications.services import NotificationService, load_services


def open_services(settings: Settings) -> list[NotificationService]:
    """Return the services of COUTURECAST_NOTIFY_URLS; none without it.  Raises UsageError."""
    if settings.notify_urls is None:
        return []
    try:
        return load_services(settings.notify_urls.get_secret_value())
    except NotifyUrlError as error:
        raise UsageError(error.problem, field=variable_name("notify_urls"), fix=error.fix) from None
