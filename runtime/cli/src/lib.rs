//! The command line: run, run -f, stop, list, logs, version; process supervision and output.
