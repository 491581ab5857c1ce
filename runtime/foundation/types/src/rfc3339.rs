//! The shape of RFC 3339 times.

/// Whether a text has the shape that Go's `time.RFC3339` asks for: date, `T`, time with seconds and perhaps a
/// fraction, and `Z` or an offset. Readers of other dialects check this first; whether the day exists is theirs.
#[must_use]
pub fn is_rfc3339(text: &str) -> bool {
    let bytes = text.as_bytes();
    let Some((head, tail)) = bytes.split_at_checked(19) else {
        return false;
    };
    let head_fits = head.iter().enumerate().all(|(at, byte)| match at {
        4 | 7 => *byte == b'-',
        10 => *byte == b'T',
        13 | 16 => *byte == b':',
        _ => byte.is_ascii_digit(),
    });
    let zone = match tail {
        [b'.' | b',', fraction @ ..] => {
            let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
            if digits == 0 {
                return false;
            }
            &fraction[digits..]
        }
        zone => zone,
    };
    head_fits
        && match zone {
            [b'Z'] => true,
            [b'+' | b'-', h1, h2, b':', m1, m2] => [h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit()),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        for text in [
            "2026-08-01T23:59:58Z",
            "2026-08-01T23:59:58.123456789+02:00",
            "2026-08-01T23:59:58,5-00:30",
        ] {
            assert!(is_rfc3339(text), "{text}");
        }
        for text in [
            "",
            "2026-08-01",
            "2026-08-01T23:59:58",
            "2026-08-01 23:59:58Z",
            "2026-08-01t23:59:58z",
            "20260801T235958Z",
            "2026-08-01T23:59:58.Z",
            "2026-08-01T23:59:58Z[UTC]",
            "2026-08-01T23:59:58é",
            "2026-08-01T23:59:5éZ",
        ] {
            assert!(!is_rfc3339(text), "{text}");
        }
    }
}
