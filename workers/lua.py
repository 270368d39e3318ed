"""The engine's Lua scripts."""

from __future__ import annotations

from storage.lua import Argument, Call, Script, run, run_one

__all__ = [
    "ANNOUNCE",
    "BEAT",
    "BLOCKED",
    "ENQUEUE",
    "GONE",
    "HOLD",
    "LETTERS",
    "LOST",
    "OVERVIEW",
    "PAUSE",
    "PENDING",
    "PROBE",
    "RECONCILE",
    "RELIST",
    "SETTLE",
    "TAKE",
    "Argument",
    "Call",
    "run",
    "run_one",
]

TAKE = Script.load("workers", "take")
SETTLE = Script.load("workers", "settle")
LETTERS = Script.load("workers", "letters")
LOST = Script.load("workers", "lost")
BEAT = Script.load("workers", "beat")
BLOCKED = Script.load("workers", "blocked")
GONE = Script.load("workers", "gone")
ANNOUNCE = Script.load("workers", "announce")
ENQUEUE = Script.load("workers", "enqueue")
HOLD = Script.load("workers", "hold")
OVERVIEW = Script.load("workers", "overview")
PAUSE = Script.load("workers", "pause")
PENDING = Script.load("workers", "pending")
PROBE = Script.load("workers", "probe")
RECONCILE = Script.load("workers", "reconcile")
RELIST = Script.load("workers", "relist")
