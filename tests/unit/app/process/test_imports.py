"""A start loads only what it needs: modules are most of its time, and of its memory."""

from __future__ import annotations

import subprocess
import sys

_NEVER_AT_START = ("apprise", "asyncpg", "fastapi", "httpx", "PIL", "pillow_heif")
_PROGRAM = f"""
import sys
import app.cli.serve, app.process.composition, app.process.run, app.process.dashboard
from workers.handlers.alert import AlertHandler
from workers.handlers.color.handler import ColorHandler
from workers.handlers.weather.handler import OpenWeather
AlertHandler(None), OpenWeather("key"), ColorHandler(None, None, image_dirs=())
print(*(name for name in {_NEVER_AT_START} if name in sys.modules))
"""


def test_what_many_processes_never_need_is_loaded_when_it_is_used() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_pictures_of_most_kinds_are_read_without_pillow_heif() -> None:
    program = "import sys, workers.handlers.color.palette; print('pillow_heif' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
