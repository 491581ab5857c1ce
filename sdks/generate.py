"""Generates what the packages of this folder have from the contracts in wire/platform/proto (requirement E2.1).

Run by `cargo xtask sdks` inside its virtual environment (python/requirements.txt). Prints what differs from the tree;
writes it only when told so.

    generate.py [--write] [--protoc-gen-es PATH] [--csharp PROTOC GRPC_CSHARP_PLUGIN] [--flatc PATH]
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import grpc_tools
from google.protobuf import descriptor_pb2

SDKS = pathlib.Path(__file__).resolve().parent
ROOT = SDKS.parent
PROTO = ROOT / "wire/platform/proto"
WELL_KNOWN = pathlib.Path(grpc_tools.__file__).parent / "_proto"

COMMON = ["virtufin/common.proto", "io/cloudevents/v1/cloudevents.proto"]
# Which package holds the code of which files. google: Python and C# take the published package instead, since a
# process may have one definition of it only; TypeScript, which has no registry of definitions, takes ours.
PACKAGES = {
    "common": COMMON,
    "gateway": [
        "virtufin/gateway.proto",
        "virtufin/pubsub.proto",
        "virtufin/state.proto",
        "virtufin/config.proto",
    ],
    "workmanager": ["virtufin/workmanager.proto"],
    "websocketmanager": ["virtufin/websocketmanager.proto"],
}
GOOGLE = ["google/api/annotations.proto", "google/api/http.proto", "google/rpc/error_details.proto"]
CSHARP = {
    "common": "Virtufin.Common",
    "gateway": "Virtufin.Gateway",
    "workmanager": "Virtufin.WorkManager",
    "websocketmanager": "Virtufin.WebSocketManager",
}


def stem(file):
    return pathlib.PurePosixPath(file).stem


HOME = {stem(file): package for package, files in PACKAGES.items() for file in files}
HOME_TYPESCRIPT = HOME | {stem(file): "common" for file in GOOGLE}


def run(command):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"{command[0]} fails:\n{result.stdout}{result.stderr}")


def protoc(arguments, files, compiler=(sys.executable, "-m", "grpc_tools.protoc"), include=True):
    paths = [f"-I{PROTO}"] + ([f"-I{WELL_KNOWN}"] if include else [])
    run([*compiler, *paths, *arguments, *files])


def all_files():
    return [file for files in PACKAGES.values() for file in files]


def python(scratch):
    """`{path: text}` of the Python packages."""
    protoc(
        [f"--python_out={scratch}", f"--pyi_out={scratch}", f"--grpc_python_out={scratch}"],
        all_files(),
    )

    # protoc writes absolute imports by the place of the .proto file; `io` would even be the standard library's.
    def place(match):
        return f"from virtufin_{HOME[match[1]]}.proto import {match[1]}_pb2 as"

    out = {}
    for path in sorted(scratch.rglob("*_pb2*")):
        name = path.name.split("_pb2")[0]
        text = re.sub(r"^from (?:virtufin|io\.cloudevents\.v1) import (\w+)_pb2 as", place, path.read_text(), flags=re.M)
        if path.name.endswith("_grpc.py") and not re.search(r"^class \w+Stub", text, flags=re.M):
            continue
        package = HOME[name]
        out[SDKS / f"python/virtufin-{package}/src/virtufin_{package}/proto/{path.name}"] = text
    return out


def typescript(scratch, plugin):
    """`{path: text}` of the TypeScript packages."""
    protoc(
        [f"--plugin=protoc-gen-es={plugin}", f"--es_out={scratch}", "--es_opt=target=ts,import_extension=js"],
        all_files() + GOOGLE,
    )
    out = {}
    for path in sorted(scratch.rglob("*_pb.ts")):
        package = HOME_TYPESCRIPT[path.name.removesuffix("_pb.ts")]

        def place(match, package=package):
            home = HOME_TYPESCRIPT[match[1]]
            return f'from "./{match[1]}_pb.js"' if home == package else f'from "virtufin-{home}/proto/{match[1]}_pb.js"'

        text = re.sub(r'from "\.[./\w]*?(\w+)_pb\.js"', place, path.read_text())
        out[SDKS / f"typescript/virtufin-{package}/src/proto/{path.name}"] = text
    return out


def csharp(scratch, compiler, plugin):
    """`{path: text}` of the C# packages."""
    out = {}
    for package, files in PACKAGES.items():
        place = scratch / package
        place.mkdir()
        arguments = [f"--plugin=protoc-gen-grpc={plugin}", f"--csharp_out={place}", f"--grpc_out={place}"]
        protoc(arguments, files, compiler=(compiler,), include=False)
        for path in sorted(place.rglob("*.cs")):
            text = path.read_text()
            if path.name.endswith("Grpc.cs") and "class " not in text:
                continue
            out[SDKS / f"csharp/{CSHARP[package]}/Generated/{path.name}"] = text
    return out


def flatbuffers(scratch, flatc):
    """`{path: text}` of what comes from the FlatBuffers schemas (requirement J5.2)."""
    schemas = sorted((ROOT / "platform/flatbuffers/schema").glob("*.fbs"))
    homes = {
        "rust": (["--gen-all"], ROOT / "platform/flatbuffers/src/generated"),
        "python": (["--gen-onefile"], SDKS / "python/virtufin-core/src/virtufin_core/flatbuffers"),
        "ts": (["--gen-all"], SDKS / "typescript/virtufin-core/src/flatbuffers"),
    }
    out = {}
    for language, (options, home) in homes.items():
        place = scratch / language
        run([flatc, f"--{language}", *options, "-o", place, *schemas])
        for path in sorted(place.rglob("*")):
            if path.is_file() and path.suffix != ".pyi":
                out[home / path.relative_to(place)] = path.read_text()
    return out


TYPES = {
    number: name.removeprefix("TYPE_").lower() for name, number in descriptor_pb2.FieldDescriptorProto.Type.items()
}


def structure(scratch):
    """The shape of all that is in the package `virtufin`, for the structural tests of every language (E2.9)."""
    path = scratch / "descriptors.bin"
    protoc([f"--descriptor_set_out={path}"], all_files())
    files = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file
    out = {"services": {}, "messages": {}, "enums": {}}

    def kind(field, nested):
        entry = nested.get(field.type_name.rsplit(".", 1)[-1])
        if entry is not None and entry.options.map_entry:
            return f"map<{TYPES[entry.field[0].type]}, {TYPES[entry.field[1].type]}>"
        name = field.type_name.lstrip(".") or TYPES[field.type]
        return f"repeated {name}" if field.label == field.LABEL_REPEATED else name

    for file in files:
        if file.package != "virtufin":
            continue
        for service in file.service:
            out["services"][f"virtufin.{service.name}"] = [
                {
                    "name": method.name,
                    "input": method.input_type.lstrip("."),
                    "output": method.output_type.lstrip("."),
                    "stream": method.server_streaming,
                }
                for method in service.method
            ]
        for message in file.message_type:
            nested = {inner.name: inner for inner in message.nested_type}
            out["messages"][f"virtufin.{message.name}"] = [
                {"name": field.name, "number": field.number, "type": kind(field, nested)} for field in message.field
            ]
        for enum in file.enum_type:
            out["enums"][f"virtufin.{enum.name}"] = {value.name: value.number for value in enum.value}
    out = {part: dict(sorted(entries.items())) for part, entries in out.items()}
    return {SDKS / "structure.json": json.dumps(out, indent=1) + "\n"}


def folders(made):
    """Folders that hold nothing but generated files."""
    return {path.parent for path in made if path.parent != SDKS}


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--write", action="store_true")
    arguments.add_argument("--protoc-gen-es", type=lambda path: pathlib.Path(path).absolute())
    arguments.add_argument("--csharp", nargs=2, metavar=("PROTOC", "PLUGIN"))
    arguments.add_argument("--flatc", type=pathlib.Path)
    arguments = arguments.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        for language in ("python", "typescript", "csharp", "flatbuffers", "structure"):
            (scratch / language).mkdir()
        made = python(scratch / "python") | structure(scratch / "structure")
        if arguments.protoc_gen_es:
            made |= typescript(scratch / "typescript", arguments.protoc_gen_es)
        if arguments.csharp:
            made |= csharp(scratch / "csharp", *arguments.csharp)
        if arguments.flatc:
            made |= flatbuffers(scratch / "flatbuffers", arguments.flatc)

    kept = {"__init__.py", "py.typed"}
    stale = [
        path
        for folder in folders(made)
        if folder.is_dir()
        for path in folder.iterdir()
        if path.is_file() and path not in made and path.name not in kept
    ]
    differing = [path for path, text in made.items() if not path.is_file() or path.read_text() != text]
    for path in sorted(differing + stale):
        print(f"differs: {path.relative_to(ROOT)}")
    if arguments.write:
        for path in stale:
            path.unlink()
        for path in differing:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(made[path])
    print(f"{len(made)} generated files, {len(differing) + len(stale)} differ")
    return 0 if arguments.write or not (differing or stale) else 1


sys.exit(main())
