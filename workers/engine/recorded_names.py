"""Names that are recorded in dead letters, and stay the same when our code moves or is renamed.

The error type and the frame of a failure are part of its group's fingerprint.  If they followed our modules,
each move would split every group, and a poison letter could be replayed again.
"""

from __future__ import annotations

from workers.engine.remote_error import RemoteError

_OUR_PACKAGES = ("app", "tui", "workers", "storage", "couturecast_handlers")

_FIRST_RECORDED_AS = {
    "CacheUnavailableError": "storage.errors.CacheUnavailableError",
    "ConflictError": "workers.errors.ConflictError",
    "DatabaseUnavailableError": "storage.errors.DatabaseUnavailableError",
    "DeliveryError": "workers.handlers.alert.DeliveryError",
    "DirectConnectionError": "storage.errors.DirectConnectionError",
    "DownloadError": "workers.net.DownloadError",
    "DownloadTooLargeError": "workers.net.TooLargeError",
    "ForbiddenAddressError": "workers.net.ForbiddenAddressError",
    "InvalidJobError": "workers.errors.InvalidJobError",
    "InvalidJsonError": "workers.errors.InvalidJsonError",
    "JobTimeoutError": "workers.worker.JobTimeoutError",
    "CacheLoadError": "storage.errors.LoadError",
    "HandlerProcessDiedError": "workers.errors.HandlerProcessDiedError",
    "MissingRightError": "storage.refusals.MissingRightError",
    "PermanentDatabaseError": "storage.errors.PermanentDatabaseError",
    "PermanentError": "workers.errors.PermanentError",
    "PoolMemoryError": "workers.pool.PoolMemoryError",
    "PoolProcessDiedError": "workers.pool.PoolProcessDiedError",
    "RedisFullError": "workers.errors.RedisFullError",
    "ServiceUnavailableError": "workers.handlers.moderation.ServiceUnavailableError",
    "RecordTooLargeError": "workers.errors.TooLargeError",
    "UnknownQueueError": "workers.errors.UnknownQueueError",
    "UnwritableJobError": "workers.errors.UnwritableJobError",
    "WeatherUnavailableError": "workers.handlers.weather.WeatherUnavailableError",
    "WorkerLostError": "workers.errors.WorkerLostError",
}
"""The spelling with which version 0.1 recorded each of our errors: fingerprints are made of it for ever."""

_HANDLER_MODULES = {
    "workers.handlers.alert": "workers.handlers.alert",
    "workers.handlers.color.handler": "workers.handlers.color",
    "workers.handlers.moderation.handler": "workers.handlers.moderation",
    "workers.handlers.weather.handler": "workers.handlers.weather",
}
"""Module of a built-in handler -> the name with which its frames are recorded."""


def error_type(error: BaseException) -> str:
    """Return the error's class: one of ours by its bare name, a builtin too, others with their module."""
    if isinstance(error, RemoteError):
        return error.error_type
    kind = type(error)
    if kind.__module__ == "builtins" or is_ours(kind.__module__):
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def fingerprint_type(error_type: str) -> str:
    """Return the spelling of ``error_type`` that goes into a fingerprint."""
    return _FIRST_RECORDED_AS.get(error_type, error_type)


def is_ours(module: str) -> bool:
    """Return whether the module with this name belongs to the program."""
    return module.partition(".")[0] in _OUR_PACKAGES


def handler_module(module: str) -> str | None:
    """Return the recorded name of a built-in handler's module; None for the rest of the program."""
    return _HANDLER_MODULES.get(module)
