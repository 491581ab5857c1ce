//! Doubles as Go prints them: exposition values and log fields share the format.

use std::fmt::Write as _;

/// A double as Go's `strconv.FormatFloat(value, 'g', -1, 64)`: the shortest digits that read back the same, with
/// an exponent below 1e-4 and from 1e6 on.
pub(crate) fn push_float(out: &mut String, value: f64) {
    if value.is_nan() {
        out.push_str("NaN");
        return;
    }
    if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
        return;
    }
    let magnitude = value.abs();
    if value == 0.0 || (1e-4..1e6).contains(&magnitude) {
        let _ = write!(out, "{value}");
        return;
    }
    // Rust prints `1.5e7` where Go prints `1.5e+07`.
    let start = out.len();
    let _ = write!(out, "{value:e}");
    if let Some(at) = out[start..].rfind('e').map(|at| start + at) {
        let exponent: i32 = out[at + 1..].parse().unwrap_or(0);
        out.truncate(at);
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "e{sign}{:02}", exponent.abs());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values printed by Go 1.26's strconv.
    #[test]
    fn doubles_read_as_go_prints_them() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (10.0, "10"),
            (123_456.0, "123456"),
            (1e6, "1e+06"),
            (1_048_576.0, "1.048576e+06"),
            (12_345_678.5, "1.23456785e+07"),
            (4_294_967_296.0, "4.294967296e+09"),
            (1e22, "1e+22"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (0.12345, "0.12345"),
            (1_763_720_000.12, "1.76372000012e+09"),
            (-2.5, "-2.5"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
        ] {
            let mut out = String::new();
            push_float(&mut out, value);
            assert_eq!(out, text);
        }
    }
}
