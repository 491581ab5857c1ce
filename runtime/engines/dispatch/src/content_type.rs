//! Which family a content type belongs to (components-contrib `contenttype`).

/// An event envelope in JSON.
pub const CLOUD_EVENT: &str = "application/cloudevents+json";
/// JSON.
pub const JSON: &str = "application/json";
/// Bytes.
pub const OCTET_STREAM: &str = "application/octet-stream";

/// Compares what stands before a `;`, in any case.
fn is(content_type: &str, expected: &str) -> bool {
    let essence = content_type
        .split_once(';')
        .map_or(content_type, |(essence, _)| essence);
    essence.eq_ignore_ascii_case(expected)
}

/// `application/cloudevents+json`.
#[must_use]
pub fn is_cloud_event(content_type: &str) -> bool {
    is(content_type, CLOUD_EVENT)
}

/// `application/json`.
#[must_use]
pub fn is_json(content_type: &str) -> bool {
    is(content_type, JSON)
}

/// `text/*` or `application/xml`.
#[must_use]
pub fn is_text(content_type: &str) -> bool {
    content_type
        .get(..5)
        .is_some_and(|prefix| prefix.eq_ignore_ascii_case("text/"))
        || is(content_type, "application/xml")
}

/// `application/octet-stream`.
#[must_use]
pub fn is_binary(content_type: &str) -> bool {
    is(content_type, OCTET_STREAM)
}

/// A CloudEvent in protobuf: by its own content type, or `application/x-protobuf` over bytes that decode as one.
#[must_use]
pub fn is_cloud_event_protobuf(content_type: &str, data: &[u8]) -> bool {
    is(content_type, "application/cloudevents+protobuf")
        || (is(content_type, "application/x-protobuf") && protobuf::is_cloud_event(data))
}

/// Just enough of the wire format to tell whether bytes decode as `io.cloudevents.v1.CloudEvent`.
mod protobuf {
    enum Value<'a> {
        Number,
        Bytes(&'a [u8]),
    }

    fn varint(data: &mut &[u8]) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let (first, rest) = data.split_first()?;
            *data = rest;
            if shift == 63 && *first > 1 {
                return None;
            }
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// The fields of a message; `None` when it is malformed.
    fn fields(mut data: &[u8]) -> Option<Vec<(u64, Value<'_>)>> {
        let mut fields = Vec::new();
        while !data.is_empty() {
            let tag = varint(&mut data)?;
            let (number, kind) = (tag >> 3, tag & 7);
            if number == 0 || number > (1 << 29) - 1 {
                return None;
            }
            let skip = |data: &mut &'_ [u8], count: usize| -> Option<()> {
                data.len().checked_sub(count)?;
                *data = &data[count..];
                Some(())
            };
            let value = match kind {
                0 => varint(&mut data).map(|_| Value::Number)?,
                1 => skip(&mut data, 8).map(|()| Value::Number)?,
                5 => skip(&mut data, 4).map(|()| Value::Number)?,
                2 => {
                    let count = usize::try_from(varint(&mut data)?).ok()?;
                    let (value, rest) = data.split_at_checked(count)?;
                    data = rest;
                    Value::Bytes(value)
                }
                // Groups are in no version of the message.
                _ => return None,
            };
            fields.push((number, value));
        }
        Some(fields)
    }

    fn is_text(value: &[u8]) -> bool {
        std::str::from_utf8(value).is_ok()
    }

    pub(super) fn is_cloud_event(data: &[u8]) -> bool {
        fields(data).is_some_and(|fields| {
            fields.iter().all(|(number, value)| match (number, value) {
                // id, source, spec_version, type, text_data
                (1..=4 | 7, Value::Bytes(text)) => is_text(text),
                (5, Value::Bytes(entry)) => is_attribute(entry),
                (8, Value::Bytes(any)) => self::fields(any).is_some(),
                _ => true,
            })
        })
    }

    /// A map entry whose value has one of the known attribute kinds.
    fn is_attribute(entry: &[u8]) -> bool {
        fields(entry).is_some_and(|fields| {
            let mut has_value = false;
            fields.iter().all(|(number, value)| match (number, value) {
                (1, Value::Bytes(key)) => is_text(key),
                (2, Value::Bytes(attribute)) => {
                    has_value = true;
                    self::fields(attribute).is_some_and(|kinds| {
                        kinds.iter().any(|(kind, _)| (1..=7).contains(kind))
                            && kinds.iter().all(|(kind, value)| match (kind, value) {
                                (3 | 5 | 6, Value::Bytes(text)) => is_text(text),
                                _ => true,
                            })
                    })
                }
                _ => true,
            }) && has_value
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families() {
        assert!(is_json("application/json") && is_json("Application/JSON; charset=utf-8"));
        assert!(
            !is_json("application/json5")
                && !is_json("application/vnd.api+json")
                && !is_json(" application/json")
        );
        assert!(
            is_text("text/plain")
                && is_text("TEXT/html; x")
                && is_text("application/xml")
                && !is_text("text")
        );
        assert!(
            is_binary("application/octet-stream;v=1")
                && is_cloud_event("application/cloudevents+json; charset=UTF-8")
        );
        assert!(is_cloud_event_protobuf(
            "application/cloudevents+protobuf",
            b"anything"
        ));
    }

    #[test]
    fn protobuf_is_looked_into() {
        let event = b"\x0a\x01a\x12\x04/src\x1a\x031.0\x22\x01t\x2a\x0c\x0a\x03sub\x12\x05\x1a\x03abc\x32\x02\xff\x00";
        assert!(is_cloud_event_protobuf("application/x-protobuf", event));
        assert!(!is_cloud_event_protobuf("application/x-protobuf", b"hello world"));
        assert!(!is_cloud_event_protobuf(
            "application/x-protobuf",
            b"\x0a\x02\xff\xff"
        ));
        assert!(!is_cloud_event_protobuf("text/plain", event));
    }
}
