"""Writes a configuration item as an operator would: `set_configuration.py KEY VALUE`.

`CONFIGURATION` is the file of `configuration.sqlite`, or `redis:<host>:<port>` for `configuration.redis`. Needs nothing but
the standard library.
"""

import os
import socket
import sqlite3
import sys


def redis(address: str, *words: str) -> None:
    host, port = address.rsplit(":", 1)
    request = f"*{len(words)}\r\n" + "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
    with socket.create_connection((host, int(port)), 5) as stream:
        stream.sendall(request.encode())
        answer = stream.recv(256)
    assert not answer.startswith(b"-"), answer


def main() -> None:
    place, (key, value) = os.environ["CONFIGURATION"], sys.argv[1:]
    if place.startswith("redis:"):
        address = place.removeprefix("redis:")
        # Dapr's Redis store learns of changes by keyspace events.
        redis(address, "CONFIG", "SET", "notify-keyspace-events", "KA")
        redis(address, "SET", key, f"{value}||1")
        return
    with sqlite3.connect(place, timeout=10) as database:
        database.execute(
            "INSERT INTO configuration (key, value, version) VALUES (?, ?, '1') "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (key, value),
        )


main()
