"""Groups of dead letters do not split when our code moves: these fingerprints are those of version 0.1."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import CodeType

import pytest

import storage
import workers
from workers.engine.fingerprint import fingerprint
from workers.engine.recorded_names import (
    _FIRST_RECORDED_AS,
    _HANDLER_MODULES,
    error_type,
    fingerprint_type,
    is_ours,
)

FINGERPRINTS = {
    "CacheUnavailableError": "20c2f940d15d939c",
    "ConflictError": "bc074ed0fc6de726",
    "DatabaseUnavailableError": "7c44b7e1aba94cd0",
    "DeliveryError": "192c2b3bd889254f",
    "DirectConnectionError": "eaab2f39356423cf",
    "DownloadError": "941d87df0c564b6c",
    "DownloadTooLargeError": "104ab421ec13de60",
    "ForbiddenAddressError": "cea34dff3929ba50",
    "HandlerProcessDiedError": "86a4dc4bc2e87a32",
    "InvalidJobError": "fe97c1dff473096b",
    "InvalidJsonError": "bfb3ef3de7086b06",
    "JobTimeoutError": "1f91faf869631db5",
    "CacheLoadError": "172c4db0d4110456",
    "MissingRightError": "3380c7ad44622173",
    "PermanentDatabaseError": "d55e85f660b5fccd",
    "PermanentError": "f5ca9491b5ae105b",
    "PoolMemoryError": "79348014b045e4a5",
    "PoolProcessDiedError": "df5054d63f35d665",
    "RedisFullError": "9daa7ed96de9d415",
    "ServiceUnavailableError": "4ac7f6975868b748",
    "RecordTooLargeError": "cda21a0320a80c32",
    "UnknownQueueError": "761a35f3e5f016f5",
    "UnwritableJobError": "9b3d5f229a70e751",
    "WeatherUnavailableError": "05f263f16d2fc508",
    "WorkerLostError": "56690c29fe8e7650",
}

HANDLER_FUNCTIONS = {
    "workers.handlers.alert": (
        "AlertHandler.__init__ AlertHandler._post AlertHandler._serve AlertHandler._try "
        "AlertHandler.close AlertHandler.run _all"
    ),
    "workers.handlers.color": (
        "ColorHandler.__init__ ColorHandler._fetch ColorHandler._read ColorHandler.close "
        "ColorHandler.run _file"
    ),
    "workers.handlers.moderation": (
        "ModerationHandler.__init__ ModerationHandler._decide ModerationHandler.close "
        "ModerationHandler.run ModerationPayload._one_of_both ModerationService.__init__ "
        "ModerationService.close ModerationService.flagged _can_be_sent _filters _has_phone_number "
        "_words judge"
    ),
    "workers.handlers.weather": (
        "OfflineWeather.close OfflineWeather.fetch OpenWeather.__init__ OpenWeather.close "
        "OpenWeather.fetch WeatherHandler.__init__ WeatherHandler.close WeatherHandler.run "
        "WeatherProvider.close WeatherProvider.fetch _chance _day _gale _hour _read _roughness "
        "_wind alert_job offline_weather severity"
    ),
}
"""The functions of the built-in handlers by the module that is recorded: frames of dead letters name them."""

_PRIVATE_TO_THEIR_MODULE = {
    # Caught where they are raised, or raised at an operator: no job ends with one.
    "ApplianceError",
    "DirectUrlError",
    "HandlerImportError",
    "HandlerInterruptedError",
    "InvalidAlertError",
    "InvalidCursorError",
    "InvalidFilterError",
    "MigrationError",
    "NotFoundError",
    "NotifyUrlError",
    "ReadOnlyError",
    "RemoteError",
    "StorageError",
    "InvalidDatabaseUrlError",
    "WorkersError",
    "_ConnectionLostError",
}


def our_errors() -> dict[str, type[BaseException]]:
    errors = {}
    for package in (storage, workers):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".migrations." in module.name:
                continue
            for value in vars(import_module(module.name)).values():
                if isinstance(value, type) and issubclass(value, BaseException) and is_ours(value.__module__):
                    assert errors.setdefault(value.__name__, value) is value, f"two errors {value.__name__}"
    return errors


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_an_error_of_ours_keeps_its_group(name: str) -> None:
    kind = our_errors()[name]
    recorded = error_type(kind.__new__(kind))
    assert recorded == name
    for spelling in (recorded, _FIRST_RECORDED_AS[name]):  # of this version, and of the first
        found = fingerprint("alert-fanout", "fan_out_alert", spelling, "503 from the service", None)
        assert found == FINGERPRINTS[name]


def test_each_error_of_ours_has_a_recorded_name() -> None:
    assert set(our_errors()) - _PRIVATE_TO_THEIR_MODULE == set(FINGERPRINTS) == set(_FIRST_RECORDED_AS)


def test_the_functions_of_built_in_handlers_keep_the_names_that_frames_have() -> None:
    for module_name, recorded in _HANDLER_MODULES.items():
        file = import_module(module_name).__file__
        assert file is not None
        code = compile(Path(file).read_text(), file, "exec")
        assert set(HANDLER_FUNCTIONS[recorded].split()) <= set(functions_of(code)), "a rename splits groups"


def functions_of(code: CodeType) -> Iterator[str]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant.co_qualname.replace(".<locals>", "")
            yield from functions_of(constant)


def test_errors_of_others_keep_their_module() -> None:
    class PermanentError(Exception):
        pass

    assert error_type(ValueError()) == "ValueError"
    assert error_type(PermanentError()).startswith(f"{__name__}.")
    assert fingerprint_type("shop.jobs.DeliveryError") == "shop.jobs.DeliveryError"
