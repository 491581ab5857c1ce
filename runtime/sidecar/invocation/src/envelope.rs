//! The envelope of an invocation between sidecars: `InternalInvokeRequest` and `InternalInvokeResponse`, written and
//! read by hand (wire.md §5; `dapr/proto/internals/v1/service_invocation.proto`).

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method as Verb};
use outrigger_wire::dapr::proto::common::v1::http_extension::Verb as WireVerb;
use prost::Message as _;
use prost_types::Any;

use crate::{
    metadata::{self, Nominated, Pairs},
    protobuf::{Malformed, Reader, put_bytes, put_bytes_head, put_element, put_nested, put_uint, varint_len},
};

/// `APIVersion.V1`.
const V1: u64 = 1;

/// Length of gRPC's message prefix: a flag and four bytes of length.
pub(crate) const PREFIX: usize = 5;

/// What is invoked, but for the body. Shared by all attempts.
#[derive(Debug)]
pub(crate) struct RequestHead {
    pub(crate) method: crate::target::Method,
    /// `HTTPExtension.Verb`; `None` when a gRPC caller gave no HTTP extension.
    pub(crate) verb: Option<i32>,
    pub(crate) query: String,
    pub(crate) content_type: Bytes,
    pub(crate) type_url: String,
    pub(crate) headers: Headers,
}

/// Request or response metadata in the form it came.
#[derive(Debug)]
pub(crate) enum Headers {
    /// Of an HTTP message.
    Http(HeaderMap),
    /// Of anything else.
    Pairs(Pairs),
}

/// What the calling sidecar adds.
#[derive(Debug)]
pub(crate) struct Added<'a> {
    pub(crate) caller_app_id: &'a str,
    pub(crate) caller_namespace: &'a str,
    pub(crate) callee_app_id: &'a str,
    /// `X-Forwarded-For`, the `Forwarded` header and `X-Forwarded-Host`, where known.
    pub(crate) forwarded: &'a Forwarded,
}

/// The headers that name the calling host (RFC 7239), made once.
#[derive(Debug, Clone, Default)]
pub struct Forwarded {
    pub(crate) address: String,
    pub(crate) host: String,
    pub(crate) forwarded: String,
}

impl Forwarded {
    /// From the sidecar's host address and host name; either may be empty.
    #[must_use]
    pub fn new(address: &str, host: &str) -> Self {
        let mut forwarded = String::new();
        if !address.is_empty() {
            // IPv6 addresses are quoted and bracketed.
            let quoted = if address.contains(':') {
                format!("\"[{address}]\"")
            } else {
                address.to_owned()
            };
            forwarded = format!("for={quoted};by={quoted}");
        }
        if !host.is_empty() {
            if !forwarded.is_empty() {
                forwarded.push(';');
            }
            forwarded.push_str("host=");
            forwarded.push_str(host);
        }
        Self {
            address: address.to_owned(),
            host: host.to_owned(),
            forwarded,
        }
    }

    fn pairs(&self) -> [(&'static str, &str); 3] {
        [
            ("X-Forwarded-For", &self.address),
            ("X-Forwarded-Host", &self.host),
            ("Forwarded", &self.forwarded),
        ]
    }
}

/// The number of an HTTP verb in the envelope; others travel as POST, as upstream sends them.
pub(crate) fn verb_number(verb: &Verb) -> i32 {
    let verb = match *verb {
        Verb::GET => WireVerb::Get,
        Verb::HEAD => WireVerb::Head,
        Verb::PUT => WireVerb::Put,
        Verb::DELETE => WireVerb::Delete,
        Verb::CONNECT => WireVerb::Connect,
        Verb::OPTIONS => WireVerb::Options,
        Verb::TRACE => WireVerb::Trace,
        Verb::PATCH => WireVerb::Patch,
        _ => WireVerb::Post,
    };
    verb as i32
}

/// The HTTP verb of a number; `None` for `NONE`, `CONNECT` and unknown ones, which no app may be sent.
pub(crate) fn verb_of(number: i32) -> Option<Verb> {
    Some(match WireVerb::try_from(number).ok()? {
        WireVerb::None | WireVerb::Connect => return None,
        WireVerb::Get => Verb::GET,
        WireVerb::Head => Verb::HEAD,
        WireVerb::Post => Verb::POST,
        WireVerb::Put => Verb::PUT,
        WireVerb::Delete => Verb::DELETE,
        WireVerb::Options => Verb::OPTIONS,
        WireVerb::Trace => Verb::TRACE,
        WireVerb::Patch => Verb::PATCH,
    })
}

/// Writes `InternalInvokeRequest` without its data.
pub(crate) fn put_request(buffer: &mut BytesMut, head: &RequestHead, added: &Added<'_>, data: Option<&[u8]>) {
    put_uint(buffer, 1, V1);
    match &head.headers {
        Headers::Http(headers) => put_http_headers(buffer, 2, headers, Some(added.forwarded), false),
        Headers::Pairs(pairs) => put_pairs(buffer, 2, pairs, Some(added.forwarded)),
    }
    for (key, value) in [
        (metadata::DESTINATION, added.callee_app_id),
        (metadata::CALLER_NAMESPACE, added.caller_namespace),
        (metadata::CALLER_APP_ID, added.caller_app_id),
        (metadata::CALLEE_APP_ID, added.callee_app_id),
    ] {
        put_entry(buffer, 2, key.as_bytes(), &[value.as_bytes()]);
    }
    put_nested(buffer, 3, |message| {
        put_bytes(message, 1, head.method.as_str().as_bytes());
        if data.is_some() || !head.type_url.is_empty() {
            put_nested(message, 2, |any| {
                put_bytes(any, 1, head.type_url.as_bytes());
                put_bytes(any, 2, data.unwrap_or_default());
            });
        }
        put_bytes(message, 3, &head.content_type);
        if let Some(verb) = head.verb {
            put_nested(message, 4, |extension| {
                put_uint(extension, 1, u64::try_from(verb).unwrap_or_default());
                put_bytes(extension, 2, head.query.as_bytes());
            });
        }
    });
}

/// The head of an answer, for writing.
#[derive(Debug)]
pub(crate) struct ReplyHead {
    /// An HTTP status, or below 100 a gRPC code.
    pub(crate) code: i32,
    pub(crate) message: String,
    pub(crate) details: Vec<Any>,
    pub(crate) headers: Headers,
    pub(crate) trailers: Pairs,
    pub(crate) content_type: Bytes,
    pub(crate) type_url: String,
}

impl ReplyHead {
    /// Whether the code is an HTTP status.
    pub(crate) fn is_http(&self) -> bool {
        self.code >= 100
    }
}

/// Writes `InternalInvokeResponse`, with its data for unary calls.
pub(crate) fn put_reply(buffer: &mut BytesMut, head: &ReplyHead, data: Option<&[u8]>) {
    put_nested(buffer, 1, |status| {
        #[expect(clippy::cast_sign_loss, reason = "protobuf extends the sign")]
        put_uint(status, 1, i64::from(head.code) as u64);
        put_bytes(status, 2, head.message.as_bytes());
        for detail in &head.details {
            put_element(status, 3, &detail.encode_to_vec());
        }
    });
    match &head.headers {
        Headers::Http(headers) => put_http_headers(buffer, 2, headers, None, true),
        Headers::Pairs(pairs) => put_pairs(buffer, 2, pairs, None),
    }
    put_pairs(buffer, 3, &head.trailers, None);
    put_nested(buffer, 4, |message| {
        if data.is_some() || !head.type_url.is_empty() {
            put_nested(message, 1, |any| {
                put_bytes(any, 1, head.type_url.as_bytes());
                put_bytes(any, 2, data.unwrap_or_default());
            });
        }
        put_bytes(message, 2, &head.content_type);
    });
}

/// Writes `InvokeRequest` alone: the argument of `OnInvoke`.
pub(crate) fn put_invoke_request(
    buffer: &mut BytesMut,
    request: &crate::delivery::AppRequest<'_>,
    data: &[u8],
) {
    put_bytes(buffer, 1, request.method.as_str().as_bytes());
    put_nested(buffer, 2, |any| {
        put_bytes(any, 1, request.type_url.as_bytes());
        put_bytes(any, 2, data);
    });
    let content_type: &[u8] = if request.type_url.is_empty() {
        request.content_type
    } else {
        b"application/x-protobuf"
    };
    put_bytes(buffer, 3, content_type);
    if let Some(verb) = request.verb {
        put_nested(buffer, 4, |extension| {
            put_uint(extension, 1, u64::try_from(verb).unwrap_or_default());
            put_bytes(extension, 2, request.query.as_bytes());
        });
    }
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

fn put_pairs(buffer: &mut BytesMut, field: u32, pairs: &Pairs, forwarded: Option<&Forwarded>) {
    let mut written = [false; 3];
    for (key, values) in &pairs.0 {
        put_entry_with(
            buffer,
            field,
            key.as_bytes(),
            values.iter().map(|value| &value[..]),
            |key| extra(forwarded, key, &mut written),
        );
    }
    put_missing_forwarded(buffer, field, forwarded, written);
}

/// Headers of an HTTP message as map entries. Keys are written in Go's canonical case: Go peers look some up by it
/// (`Accept`, and the ones that get a prefix for gRPC apps). `response` leaves out what upstream's app channel does.
fn put_http_headers(
    buffer: &mut BytesMut,
    field: u32,
    headers: &HeaderMap,
    forwarded: Option<&Forwarded>,
    response: bool,
) {
    let nominated = Nominated::of(headers);
    let mut written = [false; 3];
    // Values of one name follow one another.
    let mut iter = headers.iter().peekable();
    let mut values: Vec<&[u8]> = Vec::new();
    let mut canonical = [0_u8; 64];
    while let Some((name, value)) = iter.next() {
        values.clear();
        values.push(value.as_bytes());
        while let Some((_, more)) = iter.next_if(|(next, _)| *next == name) {
            values.push(more.as_bytes());
        }
        let text = name.as_str();
        if !metadata::travels(text, &nominated) || response && *name == http::header::CONTENT_LENGTH {
            continue;
        }
        let own;
        let key: &[u8] = if text.len() <= canonical.len() {
            let key = &mut canonical[..text.len()];
            key.copy_from_slice(text.as_bytes());
            canonicalise(key);
            key
        } else {
            let mut long = text.as_bytes().to_vec();
            canonicalise(&mut long);
            own = long;
            &own
        };
        put_entry_with(buffer, field, key, values.iter().copied(), |key| {
            extra(forwarded, key, &mut written)
        });
    }
    put_missing_forwarded(buffer, field, forwarded, written);
}

/// Go's canonical header case: the first letter and every one after a hyphen in upper case.
fn canonicalise(key: &mut [u8]) {
    let mut upper = true;
    for byte in key {
        if upper {
            byte.make_ascii_uppercase();
        }
        upper = *byte == b'-';
    }
}

/// Our own hop for a forwarding header that is there already.
fn extra<'a>(forwarded: Option<&'a Forwarded>, key: &[u8], written: &mut [bool; 3]) -> Option<&'a [u8]> {
    let forwarded = forwarded?;
    if !matches!(key.first(), Some(b'X' | b'x' | b'F' | b'f')) {
        return None;
    }
    let index = forwarded
        .pairs()
        .iter()
        .position(|(name, _)| key.eq_ignore_ascii_case(name.as_bytes()))?;
    written[index] = true;
    let (_, value) = forwarded.pairs()[index];
    (!value.is_empty()).then_some(value.as_bytes())
}

fn put_missing_forwarded(
    buffer: &mut BytesMut,
    field: u32,
    forwarded: Option<&Forwarded>,
    written: [bool; 3],
) {
    let Some(forwarded) = forwarded else { return };
    for ((name, value), written) in forwarded.pairs().into_iter().zip(written) {
        if !written && !value.is_empty() {
            put_entry(buffer, field, name.as_bytes(), &[value.as_bytes()]);
        }
    }
}

fn put_entry(buffer: &mut BytesMut, field: u32, key: &[u8], values: &[&[u8]]) {
    put_entry_with(buffer, field, key, values.iter().copied(), |_| None);
}

/// One entry of `map<string, ListStringValue>`.
fn put_entry_with<'a, 'b>(
    buffer: &mut BytesMut,
    field: u32,
    key: &[u8],
    values: impl Iterator<Item = &'a [u8]> + Clone,
    extra: impl FnOnce(&[u8]) -> Option<&'b [u8]>,
) {
    let extra = extra(key);
    let element = |value: &[u8]| 1 + varint_len(value.len() as u64) + value.len();
    let list: usize = values.clone().map(element).sum::<usize>() + extra.map_or(0, element);
    let entry = element(key) + 1 + varint_len(list as u64) + list;
    put_bytes_head(buffer, field, entry);
    put_element(buffer, 1, key);
    put_bytes_head(buffer, 2, list);
    for value in values {
        put_element(buffer, 1, value);
    }
    if let Some(value) = extra {
        put_element(buffer, 1, value);
    }
}

/// Appends `StreamPayload` as field 2 up to its data, which is to follow: the sequence number goes first, so that
/// the data can be passed on as it is.
pub(crate) fn put_payload_head(buffer: &mut BytesMut, seq: u64, len: usize) {
    let seq_len = if seq == 0 { 0 } else { 1 + varint_len(seq) };
    let data_len = 1 + varint_len(len as u64) + len;
    put_bytes_head(buffer, 2, seq_len + data_len);
    put_uint(buffer, 2, seq);
    put_bytes_head(buffer, 1, len);
}

/// Fills in gRPC's prefix at the start of the buffer; `further` bytes of the message follow outside of it.
pub(crate) fn seal(buffer: &mut BytesMut, further: usize) {
    let len = u32::try_from(buffer.len() - PREFIX + further).unwrap_or(u32::MAX);
    buffer[0] = 0;
    buffer[1..PREFIX].copy_from_slice(&len.to_be_bytes());
}

/// A buffer with room for gRPC's prefix.
pub(crate) fn open(capacity: usize) -> BytesMut {
    let mut buffer = BytesMut::with_capacity(capacity + PREFIX);
    buffer.put_bytes(0, PREFIX);
    buffer
}

/// Wraps an envelope as field 1 of a stream message.
pub(crate) fn put_first(buffer: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    put_nested(buffer, 1, write);
}

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

/// A message with gRPC's prefix in front.
pub(crate) fn put_message(message: &[u8]) -> Bytes {
    let mut buffer = open(message.len());
    buffer.put_slice(message);
    seal(&mut buffer, 0);
    buffer.freeze()
}
