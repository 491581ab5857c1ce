"""Runs the example as its README says, and uses every building block once. Needs nothing but the standard library."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

PATIENCE = 90.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(url: str, body: dict | None = None) -> dict:
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def eventually(what: str, program: subprocess.Popen, condition) -> None:
    """Waits for a condition; errors on the way only delay it."""
    deadline = time.monotonic() + PATIENCE
    last: object = None
    while time.monotonic() < deadline:
        if program.poll() is not None:
            raise AssertionError(f"{what}: the program ended with {program.returncode}")
        try:
            last = condition()
            if last is True:
                return
        except (OSError, ValueError, KeyError) as error:
            last = error
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {PATIENCE} s; last seen: {last!r}")


def main() -> None:
    here = Path(__file__).parent
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as home, open(Path(home) / "out.log", "w+") as log:
        # A home of its own: data and components of the user stay out of the test.
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "DAPR_"))}
        environment |= {"HOME": home, "GREETING_MARK": "!"}
        command = [os.environ.get("OUTRIGGER", "outrigger"), "run", "--app-id", "orders", "--app-port", str(port)]
        program = subprocess.Popen(
            [*command, "--", sys.executable, "app.py"],
            cwd=here,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            eventually("invoke and secret", program, lambda: ask(f"{url}/greeting") == {"text": "Hello, Ada!"})
            ask(f"{url}/orders", {"id": "o-1", "item": "tea"})
            eventually(
                "publish, subscribe and state", program, lambda: ask(f"{url}/orders/o-1")["status"] == "shipped"
            )
            try:
                ask(f"{url}/orders/none")
                raise AssertionError("an unknown order was found")
            except urllib.error.HTTPError as error:
                assert error.code == 404, error
            program.send_signal(signal.SIGINT)
            assert program.wait(30) == 0, f"left with {program.returncode}"
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read())
            raise
        finally:
            if program.poll() is None:
                program.kill()
    print("publish, subscribe, state, invoke, secret: all work")


if __name__ == "__main__":
    main()
