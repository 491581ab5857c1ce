//! `--enable-profiling`: what a Rust process can tell of itself on the profile port.
//!
//! Go's pprof has no like here; this serves the facts one asks for first: memory and threads as the kernel counts
//! them, so that a flag of existing command lines does something useful rather than nothing.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_util::sync::CancellationToken;

/// Answers any request with the kernel's status of this process.
pub(crate) async fn serve(listener: TcpListener, close: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = close.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((mut stream, _)) = accepted else { continue };
        tokio::spawn(async move {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let status = tokio::fs::read_to_string("/proc/self/status")
                .await
                .unwrap_or_default();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                status.len()
            );
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(status.as_bytes()).await;
        });
    }
}
