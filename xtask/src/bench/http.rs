//! Requests of the tool itself: polls, questions, and load that is far from a limit.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpStream},
    time::Duration,
};

use anyhow::Context;

const PATIENCE: Duration = Duration::from_secs(10);

/// Asks a server on loopback; status and body.
pub(crate) fn request(port: u16, method: &str, path: &str, body: &str) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(
        format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .as_bytes(),
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse().ok())
        .context("no status line")?;
    let body = answer
        .split_once("\r\n\r\n")
        .map_or("", |(_, body)| body)
        .to_owned();
    Ok((status, body))
}

/// Whether a path is answered with success; a refused connection is a no.
pub(crate) fn succeeds(port: u16, path: &str) -> bool {
    request(port, "GET", path, "").is_ok_and(|(status, _)| (200..300).contains(&status))
}

/// A connection that is kept from request to request. After a failure the next request makes another.
#[derive(Debug, Default)]
pub(crate) struct Client(Option<(u16, BufReader<TcpStream>)>);

impl Client {
    /// Asks a server on loopback; status and body.
    pub(crate) fn request(
        &mut self,
        port: u16,
        method: &str,
        path: &str,
        body: &str,
    ) -> anyhow::Result<(u16, String)> {
        let mut reader = match self.0.take() {
            Some((known, reader)) if known == port => reader,
            _ => {
                let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                BufReader::new(stream)
            }
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        reader
            .get_mut()
            .write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
        let answer = answer(&mut reader)?;
        self.0 = Some((port, reader));
        Ok(answer)
    }
}

/// Reads a whole answer.
fn answer(reader: &mut impl BufRead) -> anyhow::Result<(u16, String)> {
    let status = line(reader)?
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse().ok())
        .context("closed before the answer")?;
    let mut length = (status == 204).then_some(0);
    let mut chunked = false;
    loop {
        let header = line(reader)?;
        match header.split_once(':') {
            None if header.is_empty() => break,
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = Some(value.trim().parse()?);
            }
            Some((name, _)) if name.eq_ignore_ascii_case("transfer-encoding") => chunked = true,
            _ => {}
        }
    }
    let mut body = Vec::new();
    if chunked {
        loop {
            let size = usize::from_str_radix(&line(reader)?, 16).context("a chunk without a size")?;
            let start = body.len();
            body.resize(start + size, 0);
            reader.read_exact(&mut body[start..])?;
            line(reader)?;
            if size == 0 {
                break;
            }
        }
    } else {
        body.resize(length.context("an answer without a length")?, 0);
        reader.read_exact(&mut body)?;
    }
    Ok((status, String::from_utf8(body)?))
}

/// A line without its end; none at the end of the stream.
fn line(reader: &mut impl BufRead) -> anyhow::Result<String> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    line.truncate(line.trim_end().len());
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::answer;

    #[test]
    fn answers_follow_each_other_on_a_connection() {
        let mut stream = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n\"a\"\
             HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n\
             HTTP/1.1 204 No Content\r\n\r\n"
            .as_bytes();
        assert_eq!(answer(&mut stream).unwrap(), (200, "\"a\"".to_owned()));
        assert_eq!(answer(&mut stream).unwrap(), (201, "abc".to_owned()));
        assert_eq!(answer(&mut stream).unwrap(), (204, String::new()));
        assert!(answer(&mut stream).is_err());
    }
}
