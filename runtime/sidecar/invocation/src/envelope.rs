//! The envelope of an invocation between sidecars: `InternalInvokeRequest` and `InternalInvokeResponse`, written and
//! read by hand (wire.md §5; `dapr/proto/internals/v1/service_invocation.proto`).

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Method as Verb};
use outrigger_wire::dapr::proto::common::v1::http_extension::Verb as WireVerb;
use prost::Message as _;
use prost_types::Any;

use crate::{
    metadata::{self, Nominated, Pairs},
    protobuf::{put_bytes, put_bytes_head, put_element, put_nested, put_uint, varint_len},
};

/// The reading half.
pub(crate) use crate::received::{
    HttpHeaders, Message, Request, Response, StreamMessage, pairs_from_http, pairs_to_http,
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

pub(crate) fn put_pairs(buffer: &mut BytesMut, field: u32, pairs: &Pairs, forwarded: Option<&Forwarded>) {
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
pub(crate) fn put_http_headers(
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

/// A message with gRPC's prefix in front.
pub(crate) fn put_message(message: &[u8]) -> Bytes {
    let mut buffer = open(message.len());
    buffer.put_slice(message);
    seal(&mut buffer, 0);
    buffer.freeze()
}
