//! Reading the envelope of an invocation between sidecars (wire.md §5; what `envelope` writes).

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message as _;
use prost_types::Any;

use crate::{
    envelope::{put_http_headers, put_pairs},
    metadata::{self, Nominated, Pairs},
    protobuf::{Malformed, Reader},
};

/// A message of a stream, read: the envelope of the first one, and a chunk of the body.
#[derive(Debug, Default)]
pub(crate) struct StreamMessage {
    pub(crate) envelope: Option<Bytes>,
    pub(crate) payload: Option<Payload>,
}

/// A chunk of the body.
#[derive(Debug, Default)]
pub(crate) struct Payload {
    pub(crate) data: Bytes,
    pub(crate) seq: u64,
}

impl StreamMessage {
    pub(crate) fn read(message: Bytes) -> Result<Self, Malformed> {
        let mut this = Self::default();
        let mut reader = Reader(message);
        while let Some((field, value)) = reader.next()? {
            match field {
                1 => this.envelope = Some(value.bytes()?),
                2 => {
                    let mut payload = Payload::default();
                    let mut inner = Reader(value.bytes()?);
                    while let Some((field, value)) = inner.next()? {
                        match field {
                            1 => payload.data = value.bytes()?,
                            2 => payload.seq = value.number()?,
                            _ => {}
                        }
                    }
                    this.payload = Some(payload);
                }
                _ => {}
            }
        }
        Ok(this)
    }
}

/// `InternalInvokeRequest`, read; metadata stays packed until it is known what the app speaks.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) version: i32,
    pub(crate) has_metadata: bool,
    packed: Bytes,
    pub(crate) message: Option<Message>,
}

/// `InvokeRequest` or `InvokeResponse`, read.
#[derive(Debug, Default)]
pub(crate) struct Message {
    pub(crate) method: String,
    pub(crate) content_type: Bytes,
    pub(crate) type_url: String,
    pub(crate) data: Bytes,
    /// Verb and query of the HTTP extension.
    pub(crate) extension: Option<(i32, String)>,
}

impl Request {
    pub(crate) fn read(envelope: Bytes) -> Result<Self, Malformed> {
        let mut this = Self {
            version: 0,
            has_metadata: false,
            packed: envelope.clone(),
            message: None,
        };
        let mut reader = Reader(envelope);
        while let Some((field, value)) = reader.next()? {
            match field {
                1 => this.version = value.int32()?,
                2 => this.has_metadata = true,
                3 => this.message = Some(read_request_message(value.bytes()?)?),
                _ => {}
            }
        }
        Ok(this)
    }

    /// The metadata, key and values.
    pub(crate) fn metadata(&self) -> Entries {
        Entries {
            reader: Reader(self.packed.clone()),
            field: 2,
        }
    }
}

fn read_request_message(bytes: Bytes) -> Result<Message, Malformed> {
    let mut message = Message::default();
    let mut reader = Reader(bytes);
    while let Some((field, value)) = reader.next()? {
        match field {
            1 => message.method = value.string()?,
            2 => read_any(value.bytes()?, &mut message)?,
            3 => message.content_type = value.bytes()?,
            4 => {
                let mut extension = (0, String::new());
                let mut inner = Reader(value.bytes()?);
                while let Some((field, value)) = inner.next()? {
                    match field {
                        1 => extension.0 = value.int32()?,
                        2 => extension.1 = value.string()?,
                        _ => {}
                    }
                }
                message.extension = Some(extension);
            }
            _ => {}
        }
    }
    Ok(message)
}

impl Message {
    /// Reads `InvokeResponse`.
    pub(crate) fn read_response(bytes: Bytes) -> Result<Self, Malformed> {
        let mut message = Self::default();
        let mut reader = Reader(bytes);
        while let Some((field, value)) = reader.next()? {
            match field {
                1 => read_any(value.bytes()?, &mut message)?,
                2 => message.content_type = value.bytes()?,
                _ => {}
            }
        }
        Ok(message)
    }
}

fn read_any(bytes: Bytes, message: &mut Message) -> Result<(), Malformed> {
    let mut reader = Reader(bytes);
    while let Some((field, value)) = reader.next()? {
        match field {
            1 => message.type_url = value.string()?,
            2 => message.data = value.bytes()?,
            _ => {}
        }
    }
    Ok(())
}

/// `InternalInvokeResponse`, read.
#[derive(Debug)]
pub(crate) struct Response {
    /// Code, message and details; `None` where the peer left the status out.
    pub(crate) status: Option<(i32, String, Vec<Any>)>,
    packed: Bytes,
    pub(crate) message: Message,
}

impl Response {
    pub(crate) fn read(envelope: Bytes) -> Result<Self, Malformed> {
        let mut this = Self {
            status: None,
            packed: envelope.clone(),
            message: Message::default(),
        };
        let mut reader = Reader(envelope);
        while let Some((field, value)) = reader.next()? {
            match field {
                1 => {
                    let mut status = (0, String::new(), Vec::new());
                    let mut inner = Reader(value.bytes()?);
                    while let Some((field, value)) = inner.next()? {
                        match field {
                            1 => status.0 = value.int32()?,
                            2 => status.1 = value.string()?,
                            3 => status.2.push(Any::decode(value.bytes()?).map_err(|_| Malformed)?),
                            _ => {}
                        }
                    }
                    this.status = Some(status);
                }
                4 => this.message = Message::read_response(value.bytes()?)?,
                _ => {}
            }
        }
        Ok(this)
    }

    pub(crate) fn headers(&self) -> Entries {
        Entries {
            reader: Reader(self.packed.clone()),
            field: 2,
        }
    }

    pub(crate) fn trailers(&self) -> Entries {
        Entries {
            reader: Reader(self.packed.clone()),
            field: 3,
        }
    }
}

/// The entries of a `map<string, ListStringValue>` field.
#[derive(Debug)]
pub(crate) struct Entries {
    reader: Reader,
    field: u32,
}

impl Entries {
    /// The next key with its values' reader.
    pub(crate) fn next(&mut self) -> Result<Option<(Bytes, Values)>, Malformed> {
        while let Some((field, value)) = self.reader.next()? {
            if field != self.field {
                continue;
            }
            let mut key = Bytes::new();
            let mut list = Bytes::new();
            let mut inner = Reader(value.bytes()?);
            while let Some((field, value)) = inner.next()? {
                match field {
                    1 => key = value.bytes()?,
                    2 => list = value.bytes()?,
                    _ => {}
                }
            }
            return Ok(Some((key, Values(Reader(list)))));
        }
        Ok(None)
    }

    /// All of them as pairs.
    pub(crate) fn into_pairs(mut self) -> Result<Pairs, Malformed> {
        let mut pairs = Pairs::default();
        while let Some((key, mut values)) = self.next()? {
            let key = String::from_utf8(key.into()).map_err(|_| Malformed)?;
            let mut all = Vec::with_capacity(1);
            while let Some(value) = values.next()? {
                all.push(value);
            }
            pairs.0.push((key, all));
        }
        Ok(pairs)
    }

    /// As headers of an HTTP message (upstream `InternalMetadataToHTTPHeader`), with what was set aside.
    pub(crate) fn into_http(mut self) -> Result<HttpHeaders, Malformed> {
        let mut out = HttpHeaders {
            headers: HeaderMap::with_capacity(16),
            ..HttpHeaders::default()
        };
        let mut nominated = Nominated::default();
        while let Some((key, mut values)) = self.next()? {
            let Some(first) = values.next()? else { continue };
            let Some((name, value)) = metadata::http_header(&key, first) else {
                continue;
            };
            match name.as_str() {
                metadata::DESTINATION => continue,
                "connection" => {
                    nominated.add(value.as_bytes());
                    while let Some(value) = values.next()? {
                        nominated.add(&value);
                    }
                    continue;
                }
                "content-type" => {
                    out.from_grpc = value.as_bytes().starts_with(b"application/grpc");
                    continue;
                }
                "content-length" => {
                    out.content_length = value.to_str().ok().and_then(|text| text.trim().parse().ok());
                    continue;
                }
                metadata::TRACEPARENT => {
                    out.traceparent = Some(value);
                    continue;
                }
                metadata::TRACESTATE => {
                    out.tracestate = Some(value);
                    continue;
                }
                // Upstream passes the first one only.
                metadata::BAGGAGE => {
                    out.headers.insert(name, value);
                    continue;
                }
                "dapr-grpc-trace-bin" if key.eq_ignore_ascii_case(metadata::GRPC_TRACE.as_bytes()) => {
                    out.grpc_trace = metadata_binary(value.as_bytes());
                    continue;
                }
                text if text.ends_with("-bin") || metadata::is_hop_by_hop(text) => continue,
                _ => {}
            }
            append(&mut out.headers, name, value, &mut values)?;
        }
        if !nominated.is_empty() {
            let drop: Vec<HeaderName> = out
                .headers
                .keys()
                .filter(|name| nominated.contains(name.as_str()))
                .cloned()
                .collect();
            for name in drop {
                out.headers.remove(name);
            }
        }
        Ok(out)
    }
}

fn metadata_binary(value: &[u8]) -> Option<Vec<u8>> {
    use base64::Engine as _;
    metadata::BINARY.decode(value).ok()
}

fn append(
    headers: &mut HeaderMap,
    name: HeaderName,
    value: HeaderValue,
    values: &mut Values,
) -> Result<(), Malformed> {
    let Some(second) = values.next()? else {
        // The peer's keys are those of a map, but case may repeat them.
        let _ = headers.try_append(name, value);
        return Ok(());
    };
    let _ = headers.try_append(name.clone(), value);
    let mut next = Some(second);
    while let Some(value) = next {
        if let Ok(value) = HeaderValue::from_maybe_shared(value) {
            let _ = headers.try_append(name.clone(), value);
        }
        next = values.next()?;
    }
    Ok(())
}

/// The values of one key.
#[derive(Debug)]
pub(crate) struct Values(Reader);

impl Values {
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, Malformed> {
        while let Some((field, value)) = self.0.next()? {
            if field == 1 {
                return value.bytes().map(Some);
            }
        }
        Ok(None)
    }
}

/// Metadata as HTTP headers, and what takes another way.
#[derive(Debug, Default)]
pub(crate) struct HttpHeaders {
    pub(crate) headers: HeaderMap,
    /// Whether the message comes from the gRPC API.
    pub(crate) from_grpc: bool,
    pub(crate) content_length: Option<u64>,
    pub(crate) traceparent: Option<HeaderValue>,
    pub(crate) tracestate: Option<HeaderValue>,
    /// `grpc-trace-bin`, decoded.
    pub(crate) grpc_trace: Option<Vec<u8>>,
}

/// Metadata as headers of an HTTP message: written and read again, so that one set of rules holds.
pub(crate) fn pairs_to_http(pairs: &Pairs) -> HttpHeaders {
    let mut buffer = BytesMut::new();
    put_pairs(&mut buffer, 2, pairs, None);
    Entries {
        reader: Reader(buffer.freeze()),
        field: 2,
    }
    .into_http()
    .unwrap_or_default()
}

/// Headers of an HTTP message as metadata.
pub(crate) fn pairs_from_http(headers: &HeaderMap) -> Pairs {
    let mut buffer = BytesMut::new();
    put_http_headers(&mut buffer, 2, headers, None, false);
    Entries {
        reader: Reader(buffer.freeze()),
        field: 2,
    }
    .into_pairs()
    .unwrap_or_default()
}
