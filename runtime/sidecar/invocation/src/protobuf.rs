//! Just enough protobuf to write and read the invocation envelope by hand (design D1): the messages of
//! `dapr.proto.internals.v1` are passed on without building maps and copies of them.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// A message that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("proto: cannot parse invalid wire-format data")]
pub(crate) struct Malformed;

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;
const FIXED32: u32 = 5;

pub(crate) fn put_varint(buffer: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        #[expect(clippy::cast_possible_truncation, reason = "the low seven bits")]
        buffer.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    #[expect(clippy::cast_possible_truncation, reason = "less than 0x80")]
    buffer.put_u8(value as u8);
}

pub(crate) fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

pub(crate) fn put_uint(buffer: &mut BytesMut, field: u32, value: u64) {
    if value != 0 {
        put_varint(buffer, u64::from(field << 3 | VARINT));
        put_varint(buffer, value);
    }
}

/// The tag and length of a bytes field; the bytes follow.
pub(crate) fn put_bytes_head(buffer: &mut BytesMut, field: u32, len: usize) {
    put_varint(buffer, u64::from(field << 3 | BYTES));
    put_varint(buffer, len as u64);
}

/// A bytes or string field; left out when empty, as proto3 does.
pub(crate) fn put_bytes(buffer: &mut BytesMut, field: u32, value: &[u8]) {
    if !value.is_empty() {
        put_element(buffer, field, value);
    }
}

/// An element of a repeated bytes or string field: written even when empty.
pub(crate) fn put_element(buffer: &mut BytesMut, field: u32, value: &[u8]) {
    put_bytes_head(buffer, field, value.len());
    buffer.put_slice(value);
}

/// A nested message, written in one pass: its length takes one byte and is widened afterwards where that is too
/// little.
pub(crate) fn put_nested(buffer: &mut BytesMut, field: u32, write: impl FnOnce(&mut BytesMut)) {
    put_varint(buffer, u64::from(field << 3 | BYTES));
    let at = buffer.len();
    buffer.put_u8(0);
    write(buffer);
    let len = buffer.len() - at - 1;
    let width = varint_len(len as u64);
    if width > 1 {
        buffer.put_bytes(0, width - 1);
        buffer.copy_within(at + 1..at + 1 + len, at + width);
    }
    let mut rest = len;
    for slot in &mut buffer[at..at + width] {
        #[expect(clippy::cast_possible_truncation, reason = "the low seven bits")]
        let low = (rest & 0x7f) as u8;
        rest >>= 7;
        *slot = if rest > 0 { low | 0x80 } else { low };
    }
}

/// The value of one field.
#[derive(Debug)]
pub(crate) enum Value {
    Number(u64),
    Bytes(Bytes),
}

impl Value {
    pub(crate) fn bytes(self) -> Result<Bytes, Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Number(_) => Err(Malformed),
        }
    }

    pub(crate) fn number(self) -> Result<u64, Malformed> {
        match self {
            Self::Number(number) => Ok(number),
            Self::Bytes(_) => Err(Malformed),
        }
    }

    /// A 32-bit enumeration or integer: negative ones travel as ten bytes.
    pub(crate) fn int32(self) -> Result<i32, Malformed> {
        #[expect(clippy::cast_possible_truncation, reason = "protobuf cuts the same way")]
        self.number().map(|number| number as i32)
    }

    pub(crate) fn string(self) -> Result<String, Malformed> {
        String::from_utf8(self.bytes()?.into()).map_err(|_| Malformed)
    }
}

/// Reads the fields of a message; nested ones share its memory.
#[derive(Debug, Clone)]
pub(crate) struct Reader(pub(crate) Bytes);

impl Reader {
    /// The next field, `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Value)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = u32::try_from(self.varint()?).map_err(|_| Malformed)?;
        let value = match tag & 7 {
            VARINT => Value::Number(self.varint()?),
            FIXED64 if self.0.len() >= 8 => Value::Number(self.0.get_u64_le()),
            FIXED32 if self.0.len() >= 4 => Value::Number(u64::from(self.0.get_u32_le())),
            BYTES => {
                let len = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                if len > self.0.len() {
                    return Err(Malformed);
                }
                Value::Bytes(self.0.split_to(len))
            }
            _ => return Err(Malformed),
        };
        match tag >> 3 {
            0 => Err(Malformed),
            field => Ok(Some((field, value))),
        }
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for (index, byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.0.advance(index + 1);
                return Ok(value);
            }
        }
        Err(Malformed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn varints_have_the_length_they_say() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut buffer = BytesMut::new();
            put_varint(&mut buffer, value);
            assert_eq!(buffer.len(), varint_len(value), "{value}");
            assert_eq!(Reader(buffer.freeze()).varint().unwrap(), value);
        }
    }

    #[test]
    fn nested_messages_widen_their_length() {
        for len in [0, 1, 127, 128, 300, 20_000] {
            let mut buffer = BytesMut::new();
            put_nested(&mut buffer, 3, |inner| put_element(inner, 1, &vec![7; len]));
            let (field, value) = Reader(buffer.freeze()).next().unwrap().unwrap();
            assert_eq!(field, 3);
            let (_, inner) = Reader(value.bytes().unwrap()).next().unwrap().unwrap();
            assert_eq!(inner.bytes().unwrap(), vec![7; len]);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = Reader(Bytes::from(bytes));
            while let Ok(Some(_)) = reader.next() {}
        }
    }
}
