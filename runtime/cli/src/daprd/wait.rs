//! `daprd --wait`: blocks until a sidecar can serve outbound calls.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::ExitCode,
    time::{Duration, Instant},
};

/// How long in all; the exit code is 0 even then, as upstream's.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);
const ANSWER: Duration = Duration::from_millis(500);

/// Asks `/v1.0/healthz/outbound` until it answers 204.
pub(super) fn until_outbound_ready(port: &str) -> ExitCode {
    println!("Waiting for Dapr to be outbound ready on http://localhost:{port}/v1.0/healthz/outbound");
    let began = Instant::now();
    let (_keep, pause) = std::sync::mpsc::channel::<()>();
    while began.elapsed() < PATIENCE {
        if is_ready(port) {
            println!("Dapr is outbound ready!");
            return ExitCode::SUCCESS;
        }
        // Nothing is ever sent: this only passes the time.
        let _ = pause.recv_timeout(PAUSE);
    }
    println!("timeout waiting for Dapr to become outbound ready");
    ExitCode::SUCCESS
}

fn is_ready(port: &str) -> bool {
    let Ok(port) = port.parse::<u16>() else {
        return false;
    };
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(
            b"GET /v1.0/healthz/outbound HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        )?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(&head[9..] == b"204")
    };
    ask().unwrap_or(false)
}
