//! One HTTP/1.1 connection, either side: reads a head, then its body, with one buffer for all messages.

use std::io;

use memchr::memmem;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Heads beyond this are no load of ours.
const HEAD_LIMIT: usize = 64 * 1024;

/// What one read takes at most.
const READ: usize = 64 * 1024;

/// How a body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
}

/// The head of a message, as far as load needs it.
#[derive(Debug)]
pub(crate) struct Head {
    /// Request line or status line, without its end.
    pub(crate) line: String,
    pub(crate) framing: Framing,
    pub(crate) expects_continue: bool,
    pub(crate) closes: bool,
}

impl Head {
    /// Method and path of a request.
    pub(crate) fn request(&self) -> (&str, &str) {
        let mut words = self.line.split(' ');
        (words.next().unwrap_or(""), words.next().unwrap_or(""))
    }

    /// Status of a response, 0 when there is none.
    pub(crate) fn status(&self) -> u16 {
        self.line
            .split(' ')
            .nth(1)
            .and_then(|word| word.parse().ok())
            .unwrap_or(0)
    }
}

/// A connection and what was read ahead of it.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Where the unread part of the buffer starts.
    start: usize,
}

impl Connection {
    /// Takes a socket over.
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(READ),
            start: 0,
        })
    }

    /// Sends all bytes.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Reads the next head; `None` when the other side closed between messages.
    pub(crate) async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            let unread = &self.buffer[self.start..];
            if let Some(at) = memmem::find(unread, b"\r\n\r\n") {
                let head = parse(&unread[..at])?;
                self.start += at + 4;
                return Ok(Some(head));
            }
            if unread.len() > HEAD_LIMIT {
                return Err(io::Error::other("the head is too long"));
            }
            let empty = unread.is_empty();
            if self.fill().await? == 0 {
                return if empty {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    /// Reads a body; its bytes are added to `body` when given, and counted either way.
    pub(crate) async fn body(&mut self, framing: Framing, mut body: Option<&mut Vec<u8>>) -> io::Result<u64> {
        if let Some(body) = body.as_deref_mut() {
            body.clear();
        }
        match framing {
            Framing::Length(length) => {
                self.take(length, &mut body).await?;
                Ok(length)
            }
            Framing::Chunked => {
                let mut total = 0;
                loop {
                    let line = self.line().await?;
                    let digits = line.split(';').next().unwrap_or("").trim();
                    let size = u64::from_str_radix(digits, 16)
                        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the chunk has no size"))?;
                    if size == 0 {
                        // Trailers end with an empty line.
                        while !self.line().await?.is_empty() {}
                        return Ok(total);
                    }
                    self.take(size, &mut body).await?;
                    self.line().await?;
                    total += size;
                }
            }
        }
    }

    async fn take(&mut self, mut length: u64, body: &mut Option<&mut Vec<u8>>) -> io::Result<()> {
        while length > 0 {
            if self.start == self.buffer.len() && self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let unread = &self.buffer[self.start..];
            let taken = unread.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            if let Some(body) = body {
                body.extend_from_slice(&unread[..taken]);
            }
            self.start += taken;
            length -= taken as u64;
        }
        Ok(())
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            let unread = &self.buffer[self.start..];
            if let Some(at) = memmem::find(unread, b"\r\n") {
                let line = String::from_utf8_lossy(&unread[..at]).into_owned();
                self.start += at + 2;
                return Ok(line);
            }
            if unread.len() > HEAD_LIMIT || self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn fill(&mut self) -> io::Result<usize> {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        } else if self.start > READ {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.reserve(READ);
        self.stream.read_buf(&mut self.buffer).await
    }
}

/// Reads the lines of a head. Without any framing a request has no body, and a response of load's peers has none.
fn parse(bytes: &[u8]) -> io::Result<Head> {
    let text = std::str::from_utf8(bytes).map_err(|_| io::Error::other("the head is no text"))?;
    let mut lines = text.split("\r\n");
    let line = lines.next().unwrap_or("").to_owned();
    let mut head = Head {
        line,
        framing: Framing::Length(0),
        expects_continue: false,
        closes: false,
    };
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            let length = value
                .parse()
                .map_err(|_| io::Error::other("the length is no number"))?;
            head.framing = Framing::Length(length);
        } else if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
            head.framing = Framing::Chunked;
        } else if name.eq_ignore_ascii_case("expect") {
            head.expects_continue = value.eq_ignore_ascii_case("100-continue");
        } else if name.eq_ignore_ascii_case("connection") {
            head.closes = value.eq_ignore_ascii_case("close");
        }
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Connection, Connection) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        (Connection::new(client).unwrap(), Connection::new(server).unwrap())
    }

    #[tokio::test]
    async fn messages_follow_each_other_whatever_their_framing() {
        let (mut client, mut server) = pair().await;
        client
            .send(b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\nPOST /b HTTP/1.1\r\ncontent-length: 2\r\n\r\nfgGET /c HTTP/1.1\r\n\r\n")
            .await
            .unwrap();
        let mut body = Vec::new();
        for (path, expected) in [("/a", "abcde"), ("/b", "fg"), ("/c", "")] {
            let head = server.head().await.unwrap().unwrap();
            assert_eq!(head.request().1, path);
            server.body(head.framing, Some(&mut body)).await.unwrap();
            assert_eq!(body, expected.as_bytes());
        }
        drop(client);
        assert!(server.head().await.unwrap().is_none());
    }

    #[test]
    fn a_status_line_has_its_status() {
        let head = parse(b"HTTP/1.1 204 No Content\r\nConnection: close").unwrap();
        assert_eq!(head.status(), 204);
        assert!(head.closes);
    }
}
