//! One large body.

use std::time::Instant;

use anyhow::Context;
use serde_json::json;
use tokio::net::TcpStream;

use crate::{connection::Connection, options::Options};

const CHUNK: usize = 64 * 1024;

/// Sends it, with its length or in chunks, and prints status, bytes that arrived and seconds.
pub(crate) async fn upload(options: Options) -> anyhow::Result<()> {
    let (target, path) = (options.required("target")?, options.required("path")?);
    let bytes: u64 = options.number("bytes", 1 << 20)?;
    let chunked = options.text("chunked").is_some();
    let framing = if chunked {
        "Transfer-Encoding: chunked".to_owned()
    } else {
        format!("Content-Length: {bytes}")
    };
    let stream = TcpStream::connect(target)
        .await
        .with_context(|| format!("connect to {target}"))?;
    let mut connection = Connection::new(stream)?;
    let begun = Instant::now();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {target}\r\nContent-Type: application/octet-stream\r\n{framing}\r\n\r\n"
    );
    connection.send(head.as_bytes()).await?;
    let chunk = vec![b'x'; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let part = &chunk[..CHUNK.min(usize::try_from(left).unwrap_or(CHUNK))];
        if chunked {
            connection
                .send(format!("{:x}\r\n", part.len()).as_bytes())
                .await?;
        }
        connection.send(part).await?;
        if chunked {
            connection.send(b"\r\n").await?;
        }
        left -= part.len() as u64;
    }
    if chunked {
        connection.send(b"0\r\n\r\n").await?;
    }
    let head = connection.head().await?.context("closed before the answer")?;
    let mut body = Vec::new();
    connection.body(head.framing, Some(&mut body)).await?;
    let arrived = serde_json::from_slice::<serde_json::Value>(&body)
        .ok()
        .and_then(|body| body["bytes"].as_u64());
    println!(
        "{}",
        json!({ "status": head.status(), "bytes": arrived, "seconds": begun.elapsed().as_secs_f64() })
    );
    Ok(())
}
