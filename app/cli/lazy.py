"""Groups of commands that import a command's module when it is called, and not to list it.

Most of a command's start is spent on imports; the help and the completion of a group need none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar

from typer.core import TyperCommand, TyperGroup
from typer.main import get_group


class LazyGroup(TyperGroup):
    """A group that has a name, a module and a summary of each command.

    The module has the command, under this name, in its ``commands``.
    """

    members: ClassVar[Mapping[str, tuple[str, str]]] = {}
    """Command name to module and summary, in the order of the help."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        stubs = {name: TyperCommand(name, help=summary) for name, (_, summary) in self.members.items()}
        self.commands = {**stubs, **self.commands}

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command that ``args`` begin with, and import it."""
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None and name in self.members:
            module, _ = self.members[name]
            command = get_group(import_module(module).commands).commands[name]
        return name, command, rest
