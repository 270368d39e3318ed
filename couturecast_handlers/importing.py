"""Imports the team's function; an error has what is wrong with it in one line, and how to fix that."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import platform
import sys
from collections.abc import Callable
from typing import Any

from couturecast_handlers.frames import is_of_team, message_of


class RefusedError(ImportError):
    """The function cannot be used: why, and what to do."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.problem, self.fix = problem, fix


def import_function(name: str) -> Callable[..., Any]:
    """Return the function ``module:function``.  Raises RefusedError."""
    module_name, _, attribute = name.partition(":")
    try:
        target: Any = importlib.import_module(module_name)
        for step in attribute.split("."):
            target = getattr(target, step)
    except BaseException as error:
        cause = " ".join(": ".join(filter(None, (type(error).__name__, message_of(error)))).split())
        raise RefusedError(f"{name!r} cannot be imported: {cause}", _fix(error, module_name)) from error
    check_function(name, target)
    return target  # type: ignore[no-any-return]


def _fix(error: BaseException, module_name: str) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        if module_name == error.name or module_name.startswith(f"{error.name}."):
            return "name its folder in COUTURECAST_HANDLERS_PATH, or correct COUTURECAST_HANDLERS"
        package = sys.modules.get(error.name.rpartition(".")[0])
        if package is not None:
            folders = ", ".join(getattr(package, "__path__", ()))
            return f"add it to {folders or package.__name__}, or correct the import"
        return f"install {error.name} for {sys.executable}, or name another with COUTURECAST_HANDLERS_PYTHON"
    if isinstance(error, SyntaxError):
        return f"correct line {error.lineno} of {error.filename}"
    if isinstance(error, AttributeError) and module_name in sys.modules:
        return f"name a function of {getattr(sys.modules[module_name], '__file__', module_name)}"
    return f"see what it does when it is imported: {sys.executable} -c 'import {module_name}'"


def check_function(name: str, target: Any) -> None:
    """Raises RefusedError if ``target`` cannot be a handler."""
    fix = "write async def f(ctx, **kwargs), or def f(ctx, **kwargs)"
    if inspect.isclass(target) or not callable(target):
        raise RefusedError(f"{name!r} is no function", fix)
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        raise RefusedError(f"{name!r} yields: a handler returns its result", fix)
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):  # of one that is written in C
        return
    try:
        signature.bind_partial({})
    except TypeError:
        raise RefusedError(f"{name!r} takes no ctx: its signature is {signature}", fix) from None


def describe_function(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the facts that the appliance gets of the function, and of the interpreter that runs it."""
    try:
        signature = str(inspect.signature(function))
    except (TypeError, ValueError):
        signature = "(...)"
    code = getattr(inspect.unwrap(function), "__code__", None)
    return {
        "async": is_async(function),
        "signature": signature,
        "place": f"{code.co_filename}:{code.co_firstlineno}" if code is not None else "",
        "python": platform.python_version(),
        "executable": sys.executable,
        "pid": os.getpid(),
    }


def is_async(function: Callable[..., Any]) -> bool:
    """Return whether it is an ``async def``, or an object whose ``__call__`` is one."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - of an object that can be called
    )


def team_files() -> dict[str, list[int]]:
    """Return the files of the team's modules, each with its size and the time of its last change (in ns)."""
    return _stamps({_file_of(module) for module in list(sys.modules.values())})


def _file_of(module: Any) -> str | None:
    """Return the file of a module without running its code, which may import or raise."""
    try:
        file = object.__getattribute__(module, "__dict__").get("__file__")
    except Exception:  # an object that only stands in for a module
        return None
    return file if isinstance(file, str) else None


def files_of(error: BaseException | None, folders: list[str]) -> dict[str, list[int]]:
    """Return the files that a failed import is about, and the folders in which a module may be missing."""
    files: set[Any] = set(folders)
    if isinstance(error, SyntaxError):
        files.add(error.filename)
    trace = error.__traceback__ if error is not None else None
    while trace is not None:  # a module that fails is not in sys.modules
        files.add(trace.tb_frame.f_code.co_filename)
        trace = trace.tb_next
    stamps = _stamps(files)
    return {**_stamps({os.path.dirname(file) for file in stamps if file.endswith(".py")}), **stamps}


def _stamps(files: set[Any]) -> dict[str, list[int]]:
    ours = os.path.dirname(os.path.abspath(__file__))
    stamps = {}
    for file in files:
        if isinstance(file, str) and is_of_team(file) and not file.startswith(ours):
            with contextlib.suppress(OSError):
                status = os.stat(file)
                stamps[file] = [status.st_mtime_ns, status.st_size]
    return stamps
