"""Named cases: each runs alone, is asserted by itself and says how it ended on a line of its own."""

import importlib.metadata
import sys
import threading
import time
import traceback
from collections.abc import Callable

PATIENCE = 20.0
_CASES: list[tuple[str, Callable[[], None], int]] = []


class Skipped(Exception):
    """The case cannot be run here; the text says why."""


def has(client: type, method: str) -> None:
    """Skips a case whose call an old SDK does not have; the newest one has all of them."""
    version = importlib.metadata.version("dapr")
    if version.startswith("1.14.") and not hasattr(client, method):
        raise Skipped(f"dapr {version} has no {method}")


def case(name: str, attempts: int = 1):
    """Registers a case, which runs in the order of registration; again when it fails with attempts left."""

    def register(function: Callable[[], None]) -> Callable[[], None]:
        _CASES.append((name, function, attempts))
        return function

    return register


def eventually(condition: Callable[[], object], what: str = "the condition") -> None:
    """Waits until a condition holds; what it raises on the way only delays it."""
    deadline = time.monotonic() + PATIENCE
    last: object = None
    while time.monotonic() < deadline:
        try:
            last = condition()
            if last:
                return
        except Exception as error:  # noqa: BLE001
            last = error
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {PATIENCE:g} s; last seen: {last!r}")


def fails(action: Callable[[], object], *parts: str) -> str:
    """The text of what an action raises, which must hold one of the parts."""
    try:
        action()
    except Exception as error:  # noqa: BLE001
        text = f"{type(error).__name__} {error}"
        # In the log, to be compared between sidecars.
        print(f"refused: {text}", file=sys.stderr, flush=True)
        assert any(part in text for part in parts), text
        return text
    raise AssertionError("it did not fail")


def _bounded(function: Callable[[], None]) -> None:
    """Runs a case, but not for ever: some calls of the SDK wait without a limit."""
    raised: list[BaseException] = []

    def body() -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001
            raised.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join(PATIENCE + 5)
    if thread.is_alive():
        raise AssertionError("it hangs")
    if raised:
        raise raised[0]


def _attempt(name: str, function: Callable[[], None], attempts: int) -> None:
    for left in reversed(range(attempts)):
        try:
            return _bounded(function)
        except Skipped:
            raise
        except Exception as error:  # noqa: BLE001
            if not left:
                raise
            print(f"again {name}: {error}", file=sys.stderr, flush=True)


def run() -> int:
    """Runs all cases; the number of those that failed."""
    passed = failed = skipped = 0
    for name, function, attempts in _CASES:
        try:
            _attempt(name, function, attempts)
            passed += 1
            print(f"ok {name}", flush=True)
        except Skipped as reason:
            skipped += 1
            print(f"skipped {name}: {reason}", flush=True)
        except Exception as error:  # noqa: BLE001
            failed += 1
            traceback.print_exc(file=sys.stderr)
            sys.stderr.flush()
            print(f"failed {name}: {' '.join(str(error).split())[:400] or type(error).__name__}", flush=True)
    print(f"{passed} ok, {failed} failed, {skipped} skipped", flush=True)
    return failed
