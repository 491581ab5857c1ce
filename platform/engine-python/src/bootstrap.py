"""What runs in a worker's process around the worker's code.

Standard input is a socket to the host. Frames are a big-endian u32 length and a JSON object with a `type`:
  host: load (once, first), process, ping, shutdown        worker: ready (once, first), result, pong, error
Events run in up to `concurrency` threads; the first thread reads, so that pings are answered beside them.

The operating system's walls stand before this file starts. The wall in here, `wall_in`, is the second one: it gives
clear errors early, and makes the way to the first one longer. It is Python watching Python, and no more than that.
"""
import sys

sys.stdin = None


def wall_in(imports, readable):
    """Closes modules, files and doors of the interpreter; answers the builtins that the worker's code gets."""
    import builtins

    allowed = frozenset(imports["allowed"])
    blocked = frozenset(imports["blocked"])
    # Blocked even for allowed modules: what a blocked module is made of, and other interpreters, where no hook watches.
    mechanisms = (blocked - PLUMBING).union(
        ["_" + name for name in blocked - PLUMBING],
        ["_posixsubprocess", "_posixshmem", "_xxsubinterpreters", "_interpreters", "_testcapi", "_testinternalcapi"],
    )
    roots = tuple(root if root.endswith("/") else root + "/" for root in readable)

    def parents(name):
        parts = name.split(".")
        return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]

    def check(name):
        if not blocked.isdisjoint(parents(name)):
            raise ImportError(f"the module {name!r} is blocked for workers", name=name)
        if allowed.isdisjoint(parents(name)):
            raise ImportError(f"the module {name!r} is not among those allowed to workers", name=name)

    real_import = builtins.__import__

    def guarded_import(name, globals=None, locals=None, fromlist=(), level=0):
        if level != 0:
            raise ImportError("a worker has no package to import from", name=name)
        name = str(name)
        if not fromlist or not allowed.isdisjoint(parents(name)):
            check(name)
        for part in fromlist or ():
            # `from urllib import parse`: the package is not allowed, that module of it is.
            check(f"{name}.{part}")
        return real_import(name, globals, locals, fromlist, level)

    def closed(name):
        return isinstance(name, str) and name in DOORS

    def guard_attribute(real, what):
        def guarded(target, name, *rest):
            if closed(name):
                raise AttributeError(f"the attribute {name!r} is closed to workers")
            return real(target, name, *rest)

        guarded.__name__ = what
        return guarded

    if sys.version_info < (3, 11) and "subprocess" in mechanisms:
        # There `uuid` loads `platform`, which loads `subprocess` and does not use it for that.
        sys.modules["subprocess"] = type(sys)("subprocess")

    # All names an audit hook uses are its own: those of a module could be replaced by what it watches.
    def watch(
        event,
        arguments,
        harmless=HARMLESS,
        mechanisms=mechanisms,
        roots=roots,
        error=PermissionError,
        missing=ImportError,
        text=str,
        number=int,
        kind=isinstance,
    ):
        if event in harmless:
            return
        if event == "import":
            name = text(arguments[0])
            if name.partition(".")[0] in mechanisms or name in mechanisms:
                raise missing(f"the module {name!r} is blocked for workers", name=name)
            return
        if event == "open" or event == "os.listdir" or event == "os.scandir":
            path = arguments[0]
            if kind(path, bytes):
                path = path.decode("utf-8", "surrogateescape")
            inside = kind(path, text) and "/../" not in path + "/" and (path + "/").startswith(roots)
            # Descriptors below three are the worker's standard streams.
            inside = inside or (kind(path, number) and path < 3)
            writes = event == "open" and kind(arguments[1], text) and not arguments[1].strip("rbtU") == ""
            writes = writes or (event == "open" and kind(arguments[2], number) and arguments[2] & 0o3103 != 0)
            if inside and not writes:
                return
            raise error(f"{event} of {path!r} is closed to workers")
        raise error(f"{event} is closed to workers")

    offered = {name: value for name, value in vars(builtins).items() if name not in CLOSED_BUILTINS}
    offered["__import__"] = guarded_import
    for name in ("getattr", "hasattr", "setattr", "delattr"):
        offered[name] = guard_attribute(getattr(builtins, name), name)
    return offered, watch


# Ways from any object to the interpreter's inside. The worker's source may not name them.
DOORS = frozenset(
    """__subclasses__ __bases__ __base__ __mro__ mro __globals__ __closure__ __code__ __builtins__ __loader__ __spec__
    __getattribute__ __reduce__ __reduce_ex__ __traceback__ __self__ __func__ __wrapped__ __cached__
    tb_frame tb_next gi_frame gi_code cr_frame cr_code ag_frame ag_code f_back f_globals f_locals f_builtins f_code
    _getframe __defaults__ __kwdefaults__ cell_contents""".split()
)

# The standard library is built on these. A worker may not import them; that they are loaded cannot be helped, and what
# they do is judged in `watch`.
PLUMBING = frozenset("builtins code codeop gc importlib os pickle posix shutil signal sys tempfile".split())

CLOSED_BUILTINS = frozenset("open exec eval compile input breakpoint help exit quit copyright credits license".split())

# What ordinary code does all the time. Any event that is not here, and is not judged in `watch`, is denied.
HARMLESS = frozenset(
    """compile exec marshal.loads marshal.load builtins.id object.__getattr__ object.__setattr__ object.__delattr__
    code.__new__ function.__new__ sys._getframe sys._getframemodulename sys._current_frames sys.unraisablehook
    sys.excepthook _thread.start_new_thread _thread.start_joinable_thread array.__new__ time.sleep
    os.putenv os.unsetenv""".split()
)


def check_names(source, name):
    """Refuses source that names a door. Dynamic code cannot be made, so this sees all there is."""
    only_ast = 0x400
    nodes = [compile(source, name, "exec", only_ast, True)]
    while nodes:
        node = nodes.pop()
        for field in node._fields:
            value = getattr(node, field, None)
            for item in value if isinstance(value, list) else [value]:
                if hasattr(item, "_fields"):
                    nodes.append(item)
                # Names of every kind, even those of patterns; text that merely says such a word is free to do so.
                elif isinstance(item, str) and item in DOORS and type(node).__name__ != "Constant":
                    line = getattr(node, "lineno", 0)
                    raise SyntaxError(f"the name {item!r} is closed to workers", (name, line, None, None))


def describe(error, name):
    """One line: the kind, the message, and where in the worker's code."""
    kind = type(error).__name__
    if isinstance(error, SyntaxError):
        return f"{kind}: {error.msg} ({error.filename}, line {error.lineno})"
    try:
        words = str(error)
    except BaseException:
        words = "its message cannot be read"
    where = ""
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename == name:
            where = f" ({name}, line {trace.tb_lineno}, in {code.co_name})"
        trace = trace.tb_next
    return f"{kind}: {words[:4096]}{where}" if words else kind + where


class Channel:
    """Frames over a descriptor. Any thread may send; one receives."""

    def __init__(self, descriptor):
        import _thread
        import json
        import os

        self._descriptor = descriptor
        self._read = os.read
        self._write = os.write
        self._loads = json.loads
        self._dumps = json.JSONEncoder(allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode
        self._lock = _thread.allocate_lock()
        self.limit = 1 << 20

    def _exactly(self, count):
        parts = []
        while count > 0:
            part = self._read(self._descriptor, min(count, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def receive(self):
        length = int.from_bytes(self._exactly(4), "big")
        return self._loads(self._exactly(length))

    def send(self, **frame):
        body = self._dumps(frame).encode("utf-8", "replace")
        if len(body) > self.limit:
            raise ValueError(f"an answer of {len(body)} bytes; {self.limit} are allowed")
        data = memoryview(len(body).to_bytes(4, "big") + body)
        with self._lock:
            while data:
                data = data[self._write(self._descriptor, data) :]


class Worker:
    """The loaded code, and the threads that give it events."""

    def __init__(self, channel, name, process, concurrency):
        import _thread
        import _queue

        self._channel = channel
        self._name = name
        self._process = process
        self._concurrency = concurrency
        self._waiting = _queue.SimpleQueue()
        self._start = _thread.start_new_thread
        self._threads = 0
        self._idle = _thread.allocate_lock()
        self._busy = 0

    def run(self, frame):
        """Answers one event."""
        channel, identifier = self._channel, frame["id"]
        try:
            answer = self._process(frame["cloudEvent"])
            if answer is None:
                channel.send(type="result", id=identifier)
            elif isinstance(answer, dict):
                channel.send(type="result", id=identifier, cloudEvent=answer)
            else:
                raise TypeError(f"Process must answer a dict or None, not {type(answer).__name__}")
        except BaseException as error:
            words = describe(error, self._name)
            error = answer = None
            channel.send(type="error", id=identifier, message=words)

    def _serve(self):
        while True:
            frame = self._waiting.get()
            self.run(frame)
            frame = None
            with self._idle:
                self._busy -= 1

    def accept(self, frame):
        """Gives an event to a thread; without threads, runs it here."""
        with self._idle:
            self._busy += 1
            short = self._busy > self._threads and self._threads < self._concurrency
        if short:
            try:
                self._start(self._serve, ())
                self._threads += 1
            except RuntimeError:
                if self._threads == 0:
                    self.run(frame)
                    with self._idle:
                        self._busy -= 1
                    return
        self._waiting.put(frame)


def load(frame):
    """Runs the worker's code once; answers its `Process`."""
    name = frame["name"]
    module = type(sys)("worker")
    module.__file__ = name
    imports = frame["imports"]
    if imports["enforced"]:
        check_names(frame["code"], name)
        offered, watch = wall_in(imports, frame["readable"])
        module.__dict__["__builtins__"] = offered
        code = compile(frame["code"], name, "exec", 0, True)
        sys.addaudithook(watch)
    else:
        code = compile(frame["code"], name, "exec", 0, True)
    exec(code, module.__dict__)
    process = module.__dict__.get("Process")
    if not callable(process):
        raise TypeError("there is no function Process(event)")
    return process


def main():
    from os import _exit

    channel = Channel(0)
    frame = channel.receive()
    channel.limit = frame["limit"]
    sys.path.extend(frame["path"])
    try:
        worker = Worker(channel, frame["name"], load(frame), frame["concurrency"])
    except BaseException as error:
        channel.send(type="error", message=describe(error, frame["name"]))
        _exit(1)
    frame = None
    channel.send(type="ready")
    try:
        while True:
            frame = channel.receive()
            kind = frame["type"]
            if kind == "process":
                worker.accept(frame)
            elif kind == "ping":
                channel.send(type="pong")
            elif kind == "shutdown":
                break
    except EOFError:
        pass
    # Threads of the worker's own are not waited for.
    _exit(0)


main()
