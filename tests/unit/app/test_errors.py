"""Messages about errors of the system: the cause and the fix."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from app.admin_token import _unusable_error
from app.servers.data_dir import not_writable

EXHAUSTED = [errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.ENOMEM]
OTHERS = [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG]


@pytest.mark.parametrize("number", [*EXHAUSTED, *OTHERS])
def test_another_folder_is_the_fix_only_if_it_helps(number: int) -> None:
    error = OSError(number, os.strerror(number), "/data/x.lock")
    message = str(not_writable(Path("/data"), error))
    assert message.startswith("/data ")
    assert ("name another data directory" in message) == (number in OTHERS)
    assert ("COUTURECAST_ADMIN_TOKEN" in str(_unusable_error(Path("/data"), error))) == (number in OTHERS)
    if number == errno.EMFILE:
        assert "ulimit -n" in message
