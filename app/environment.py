"""Reads the variables that the settings come from."""

from __future__ import annotations

import os
from pathlib import Path

from dotenv import dotenv_values

from app.errors import SettingsError, UsageError, refused_by_system

PREFIX = "COUTURECAST_"


def environment() -> dict[str, str]:
    """Return the variables of ``.env`` in the working directory, overridden by those of the environment.

    A variable without a value counts as unset.  Raises SettingsError if the file cannot be read.
    """
    try:
        values = dotenv_values(".env")
    except OSError as error:
        refusal = refused_by_system(".env cannot be read", error, fix="correct or remove it")
        raise SettingsError([refusal]) from None
    except UnicodeDecodeError:
        raise SettingsError([UsageError(".env is not UTF-8 text", fix="save it as UTF-8")]) from None
    file = {name: value for name, value in values.items() if value}
    return file | {name: value for name, value in os.environ.items() if value}


def default_data_dir() -> Path:
    """Return the data directory that is used if none is set."""
    import platformdirs  # most commands of a container do not need it

    return Path(platformdirs.user_data_dir("couturecast-tui"))


def data_directory(flag: Path | None) -> Path:
    """Return the data directory as the settings have it, without loading them.  Raises SettingsError."""
    if flag is not None:
        return flag
    variable = environment().get(f"{PREFIX}DATA_DIR")
    return default_data_dir() if variable is None else Path(os.path.expanduser(variable))
