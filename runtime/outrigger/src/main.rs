//! The multi-call binary: argv to exit code, nothing else.

use std::process::ExitCode;

/// Chosen for idle memory and tail latency; see `docs/performance.md`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Process-wide by rustls' design: one provider, chosen before anything speaks TLS.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    outrigger_cli::main(std::env::args_os())
}
