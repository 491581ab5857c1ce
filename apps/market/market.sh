#!/bin/sh
# Runs a program of the pipeline: one beside this file (in a release archive), or the newest of this checkout:
# `./market.sh <program> [flags]`. MARKET_BIN names the folder of the programs.
here=$(cd "$(dirname "$0")" && pwd)
program=$1
shift
if [ -n "$MARKET_BIN" ]; then
  exec "$MARKET_BIN/$program" "$@"
fi
if [ -x "$here/$program" ]; then
  exec "$here/$program" "$@"
fi
target=${CARGO_TARGET_DIR:-$here/../../target}
found=$(ls -t "$target/release/$program" "$target/fast/$program" "$target/debug/$program" 2>/dev/null | head -n 1)
if [ -z "$found" ]; then
  echo "market: no $program yet; build it with: cargo xtask market" >&2
  exit 1
fi
exec "$found" "$@"
