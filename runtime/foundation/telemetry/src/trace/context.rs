//! The identity of a span and its wire forms: `traceparent`/`tracestate` and `grpc-trace-bin`
//! (`pkg/diagnostics/tracing.go`, `pkg/diagnostics/utils/trace_utils.go`).

use std::{fmt, sync::Arc};

use super::current::LogIds;

/// The longest `tracestate` sent on.
pub const MAX_TRACESTATE_BYTES: usize = 512;

/// The most members a `tracestate` may have (W3C).
const MAX_TRACESTATE_MEMBERS: usize = 32;

/// The highest `traceparent` version accepted; 255 is forbidden.
const MAX_VERSION: u8 = 254;

const FLAG_SAMPLED: u8 = 1;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// From its bytes; all zero is the invalid id.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            #[must_use]
            pub const fn to_bytes(self) -> [u8; $bytes] {
                self.0
            }

            /// Whether any bit is set.
            #[must_use]
            pub fn is_valid(self) -> bool {
                self.0 != [0; $bytes]
            }

            fn from_lower_hex(text: &str) -> Option<Self> {
                if text.len() != $bytes * 2 || text.bytes().any(|b| b.is_ascii_uppercase()) {
                    return None;
                }
                let mut bytes = [0; $bytes];
                for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
                    *byte = hex_byte(pair)?;
                }
                Some(Self(bytes))
            }
        }

        /// Lower-case hexadecimal.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id!(
    /// The id of a trace.
    TraceId,
    16
);
id!(
    /// The id of a span.
    SpanId,
    8
);

fn hex_byte(pair: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

/// What travels between processes about a span. The default is the empty, invalid context.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SpanContext {
    trace_id: TraceId,
    span_id: SpanId,
    flags: u8,
    state: Option<Arc<str>>,
    /// Set on the empty context only: see [`SpanContext::zero`].
    is_zero: bool,
}

impl fmt::Debug for SpanContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.traceparent().as_str())
    }
}

impl SpanContext {
    /// A context without `tracestate`.
    #[must_use]
    pub const fn new(trace_id: TraceId, span_id: SpanId, flags: u8) -> Self {
        Self {
            trace_id,
            span_id,
            flags,
            state: None,
            is_zero: false,
        }
    }

    /// What a request without a context gets where nothing makes one: all zeros, and yet sent on, as Dapr does. A
    /// receiver that reads it finds no parent and begins its own trace.
    #[must_use]
    pub fn zero() -> Self {
        Self {
            is_zero: true,
            ..Self::default()
        }
    }

    /// Whether it is sent on: a valid context, or [`SpanContext::zero`].
    #[must_use]
    pub fn is_sent_on(&self) -> bool {
        self.is_zero || self.is_valid()
    }

    /// The same trace with another span and decision; `tracestate` goes along.
    pub(super) fn child(&self, trace_id: TraceId, span_id: SpanId, sampled: bool) -> Self {
        Self {
            trace_id,
            span_id,
            flags: if sampled {
                self.flags | FLAG_SAMPLED
            } else {
                self.flags & !FLAG_SAMPLED
            },
            state: self.state.clone(),
            is_zero: false,
        }
    }

    /// The trace.
    #[must_use]
    pub const fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// The span.
    #[must_use]
    pub const fn span_id(&self) -> SpanId {
        self.span_id
    }

    /// The trace flags.
    #[must_use]
    pub const fn flags(&self) -> u8 {
        self.flags
    }

    /// Whether trace and span ids are set.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.trace_id.is_valid() && self.span_id.is_valid()
    }

    /// What gives its ids to the log lines of some work (C9); nothing where there are no ids.
    #[must_use]
    pub fn log_ids(&self) -> LogIds {
        if self.is_valid() {
            LogIds::new(self.trace_id, self.span_id)
        } else {
            LogIds::default()
        }
    }

    /// Whether the trace is recorded.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & FLAG_SAMPLED != 0
    }

    /// Reads `traceparent`; `None` when it is malformed, of version 255, or all zero.
    #[must_use]
    pub fn from_traceparent(header: &str) -> Option<Self> {
        let mut parts = header.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if version.len() != 2 {
            return None;
        }
        let version = hex_byte(version.as_bytes())?;
        if version > MAX_VERSION || (version == 0 && parts.next().is_some()) {
            return None;
        }
        // The flags may be any whole number of bytes, of which the first counts.
        if flags.is_empty() || !flags.len().is_multiple_of(2) {
            return None;
        }
        let mut bytes = flags.as_bytes().chunks_exact(2).map(hex_byte);
        let first = bytes.next()??;
        if bytes.any(|byte| byte.is_none()) {
            return None;
        }
        let context = Self::new(
            TraceId::from_lower_hex(trace)?,
            SpanId::from_lower_hex(span)?,
            first,
        );
        context.is_valid().then_some(context)
    }

    /// Reads both HTTP headers; an invalid `tracestate` is dropped without harming the rest.
    #[must_use]
    pub fn from_headers(traceparent: Option<&str>, tracestate: Option<&str>) -> Option<Self> {
        let mut context = Self::from_traceparent(traceparent?)?;
        context.state = tracestate.and_then(parse_tracestate);
        Some(context)
    }

    /// Reads gRPC metadata: `grpc-trace-bin` wins over `traceparent` even when it is malformed.
    #[must_use]
    pub fn from_grpc(
        trace_bin: Option<&[u8]>,
        traceparent: Option<&str>,
        tracestate: Option<&str>,
    ) -> Option<Self> {
        match trace_bin {
            Some(binary) => Self::from_binary(binary),
            None => Self::from_headers(traceparent, tracestate),
        }
    }

    /// Reads the binary form; fields after the trace id are optional.
    #[must_use]
    pub fn from_binary(binary: &[u8]) -> Option<Self> {
        let rest = binary.strip_prefix(&[0, 0])?;
        let (trace_id, mut rest) = rest.split_first_chunk::<16>()?;
        let mut context = Self::new(TraceId(*trace_id), SpanId::default(), 0);
        if let Some((span_id, after)) = rest.strip_prefix(&[1]).and_then(<[u8]>::split_first_chunk::<8>) {
            context.span_id = SpanId(*span_id);
            rest = after;
        }
        if let [2, flags, ..] = rest {
            context.flags = *flags;
        }
        Some(context)
    }

    /// The `grpc-trace-bin` form; `None` for the empty context.
    #[must_use]
    pub fn to_binary(&self) -> Option<[u8; 29]> {
        if *self == Self::default() {
            return None;
        }
        let mut binary = [0; 29];
        binary[2..18].copy_from_slice(&self.trace_id.0);
        binary[18] = 1;
        binary[19..27].copy_from_slice(&self.span_id.0);
        binary[27] = 2;
        binary[28] = self.flags;
        Some(binary)
    }

    /// The `traceparent` form, without allocating.
    #[must_use]
    pub fn traceparent(&self) -> Traceparent {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let mut put = |at: usize, bytes: &[u8]| {
            for (index, byte) in bytes.iter().enumerate() {
                text[at + index * 2] = DIGITS[usize::from(byte >> 4)];
                text[at + index * 2 + 1] = DIGITS[usize::from(byte & 15)];
            }
        };
        put(3, &self.trace_id.0);
        put(36, &self.span_id.0);
        put(53, &[self.flags]);
        Traceparent(text)
    }

    /// The whole `tracestate`, of any length.
    #[must_use]
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// The `tracestate` to send on; `None` when there is none or it is longer than [`MAX_TRACESTATE_BYTES`].
    #[must_use]
    pub fn outgoing_tracestate(&self) -> Option<&str> {
        self.tracestate()
            .filter(|state| state.len() <= MAX_TRACESTATE_BYTES)
    }
}

/// A `traceparent` value on the stack.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Traceparent([u8; 55]);

impl Traceparent {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only hexadecimal digits and dashes are ever put in.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The text's bytes, for header values.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The valid members of a `tracestate`, rejoined; `None` when empty or when any member is invalid.
fn parse_tracestate(header: &str) -> Option<Arc<str>> {
    let mut members: Vec<(&str, &str)> = Vec::new();
    for member in header.split(',').filter(|member| !member.is_empty()) {
        let (key, value) = member.split_once('=')?;
        let key = key.trim_start_matches([' ', '\t']);
        let value = value.trim_end_matches([' ', '\t']);
        if !is_state_key(key) || !is_state_value(value) || members.iter().any(|(known, _)| *known == key) {
            return None;
        }
        members.push((key, value));
        if members.len() > MAX_TRACESTATE_MEMBERS {
            return None;
        }
    }
    if members.is_empty() {
        return None;
    }
    let mut text = String::with_capacity(header.len());
    for (key, value) in members {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(key);
        text.push('=');
        text.push_str(value);
    }
    Some(text.into())
}

fn is_state_value(value: &str) -> bool {
    let is_visible = |byte: u8| (0x21..=0x7e).contains(&byte) && byte != b',' && byte != b'=';
    match value.as_bytes() {
        [] => false,
        [before @ .., last] => {
            value.len() <= 256
                && is_visible(*last)
                && before.iter().all(|byte| *byte == b' ' || is_visible(*byte))
        }
    }
}

fn is_state_key(key: &str) -> bool {
    let is_rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/".contains(&byte);
    let is_part = |part: &str, most: usize, digit_first: bool| match part.as_bytes() {
        [] => false,
        [first, rest @ ..] => {
            rest.len() <= most
                && (first.is_ascii_lowercase() || (digit_first && first.is_ascii_digit()))
                && rest.iter().copied().all(is_rest)
        }
    };
    match key.split_once('@') {
        None => is_part(key, 255, false),
        Some((tenant, system)) => is_part(tenant, 240, true) && is_part(system, 13, false),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    proptest! {
        #[test]
        fn both_forms_round_trip(trace in any::<[u8; 16]>(), span in any::<[u8; 8]>(), flags in any::<u8>()) {
            let context = SpanContext::new(TraceId(trace), SpanId(span), flags);
            prop_assume!(context.is_valid());
            let text = context.traceparent();
            prop_assert_eq!(SpanContext::from_traceparent(text.as_str()), Some(context.clone()));
            let binary = context.to_binary().unwrap();
            prop_assert_eq!(SpanContext::from_binary(&binary), Some(context));
        }

        #[test]
        fn no_text_and_no_bytes_panic(text in ".{0,80}", bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = SpanContext::from_headers(Some(&text), Some(&text));
            let _ = SpanContext::from_grpc(Some(&bytes), None, None);
            let _ = super::super::baggage::parse(&text);
        }

        #[test]
        fn a_truncated_parent_is_refused(end in 0usize..55) {
            prop_assert_eq!(SpanContext::from_traceparent(&PARENT[..end]), None);
        }
    }

    #[test]
    fn accepts_future_versions_with_more_sections() {
        for (header, accepted) in [
            (PARENT.to_owned(), true),
            (PARENT.replacen("00-", "fe-", 1) + "-extra", true),
            (PARENT.replacen("00-", "ff-", 1), false),
            (format!("{PARENT}-extra"), false),
            (PARENT.to_uppercase(), false),
            (PARENT.replace("00f067aa0ba902b7", "0000000000000000"), false),
            (
                PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
                false,
            ),
        ] {
            assert_eq!(
                SpanContext::from_traceparent(&header).is_some(),
                accepted,
                "{header}"
            );
        }
    }

    #[test]
    fn tracestate_is_kept_when_valid_and_sent_on_up_to_512_bytes() {
        let with = |state: &str| SpanContext::from_headers(Some(PARENT), Some(state)).unwrap();
        assert_eq!(
            with("a=1, b=2 ,,c@d=3").outgoing_tracestate(),
            Some("a=1,b=2,c@d=3")
        );
        for bad in ["", "a", "A=1", "a=1,a=2", "a=\u{1}", "1a=1", "a="] {
            assert_eq!(with(bad).tracestate(), None, "{bad:?}");
        }
        let long = format!("a={},b={}", "x".repeat(255), "y".repeat(255));
        assert_eq!(with(&long).outgoing_tracestate(), None);
        assert_eq!(with(&long).tracestate(), Some(long.as_str()));
    }

    #[test]
    fn the_binary_form_may_stop_early_and_wins_over_the_header() {
        let binary = SpanContext::from_traceparent(PARENT)
            .unwrap()
            .to_binary()
            .unwrap();
        let short = SpanContext::from_binary(&binary[..18]).unwrap();
        assert!(short.trace_id().is_valid() && !short.span_id().is_valid());
        assert_eq!(
            SpanContext::from_grpc(Some(&binary[..10]), Some(PARENT), None),
            None
        );
        assert!(SpanContext::from_grpc(None, Some(PARENT), None).is_some());
        assert_eq!(SpanContext::default().to_binary(), None);
    }
}
