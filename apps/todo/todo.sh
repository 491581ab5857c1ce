#!/bin/sh
# Runs the todo binary beside this file (in a release archive), or the newest one of this checkout:
# `./todo.sh <service> [flags]`. TODO_BIN names another one.
here=$(cd "$(dirname "$0")" && pwd)
if [ -z "$TODO_BIN" ] && [ -x "$here/todo" ]; then
  TODO_BIN=$here/todo
fi
target=${CARGO_TARGET_DIR:-$here/../../target}
if [ -z "$TODO_BIN" ]; then
  TODO_BIN=$(ls -t "$target/release/todo" "$target/fast/todo" "$target/debug/todo" 2>/dev/null | head -n 1)
fi
if [ -z "$TODO_BIN" ]; then
  echo "todo: no binary yet; build it with: cargo build -p outrigger-todo" >&2
  exit 1
fi
exec "$TODO_BIN" "$@"
