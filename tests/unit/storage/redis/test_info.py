"""The facts that a Redis reports about itself, complete or not."""

from __future__ import annotations

from storage.redis.info import ServerInfo


def test_an_empty_reply_has_no_facts() -> None:
    assert ServerInfo.parse({}) == ServerInfo()


def test_the_facts_of_a_valkey() -> None:
    info = ServerInfo.parse(
        {
            "redis_version": "7.2.4",
            "valkey_version": "9.1.0",
            "server_mode": "standalone",
            "role": "master",
            "used_memory": 1024,
            "maxmemory": 0,
            "maxmemory_policy": "noeviction",
            "aof_enabled": 1,
            "aof_last_write_status": "err",
        }
    )
    assert (info.valkey_version, info.mode, info.role) == ("9.1.0", "standalone", "master")
    assert (info.used_memory, info.max_memory) == (1024, 0)
    assert (info.append_only, info.append_only_writable) == (True, False)


def test_the_reply_of_info_as_the_server_sends_it() -> None:
    reply = b"# Memory\r\nused_memory:1024\r\nmaxmemory:2048\r\n\r\n# Stats\r\nevicted_keys:7\r\n"
    info = ServerInfo.parse_text(reply + b"maxmemory_policy:allkeys-lru\r\nrun_id:\xff\r\n")
    assert (info.used_memory, info.max_memory, info.evicted_keys) == (1024, 2048, 7)
    assert info.eviction_policy == "allkeys-lru"


def test_malformed_numbers_are_unknown() -> None:
    info = ServerInfo.parse({"used_memory": "many", "maxmemory": "inf", "aof_enabled": None})
    assert (info.used_memory, info.max_memory, info.append_only) == (None, None, None)
