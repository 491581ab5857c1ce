"""Says where this interpreter keeps what a worker needs to read."""
import json
import os
import site
import sys

for name in ("_bz2", "_ctypes", "_decimal", "_hashlib", "_lzma", "_uuid", "pyexpat", "zlib"):
    try:
        __import__(name)
    except ImportError:
        pass

libraries = set()
with open("/proc/self/maps") as maps:
    for line in maps:
        path = line[line.find("/") :].strip() if "/" in line else ""
        if ".so" in os.path.basename(path):
            libraries.add(os.path.dirname(path))

sys.stdout.write(
    json.dumps(
        {
            "executable": os.path.realpath(sys.executable),
            "version": list(sys.version_info[:3]),
            "stdlib": [os.path.realpath(path) for path in sys.path if path],
            "site": [path for path in site.getsitepackages() if os.path.isdir(path)],
            "libraries": sorted(libraries),
        }
    )
)
