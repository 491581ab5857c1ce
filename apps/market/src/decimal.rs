//! Prices and sizes as exchanges write them.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const DIGITS: usize = 8;
const ONE: i64 = 100_000_000;

/// A decimal number with eight digits after the point, as Binance writes all of its prices. Exact, unlike a float:
/// what comes in goes out as it was.
///
/// In JSON it is text; a number is read too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Decimal(i64);

/// Text that is no such number, or one that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a decimal number with up to {DIGITS} digits after the point")]
pub struct DecimalError(String);

impl Decimal {
    /// So many hundred-millionths.
    #[must_use]
    pub const fn from_units(units: i64) -> Self {
        Self(units)
    }

    /// In hundred-millionths.
    #[must_use]
    pub const fn units(self) -> i64 {
        self.0
    }

    /// With all eight digits after the point, such as `0.00100000`.
    #[must_use]
    pub fn to_fixed(self) -> String {
        let sign = if self.0 < 0 { "-" } else { "" };
        let units = self.0.unsigned_abs();
        format!("{sign}{}.{:08}", units / ONE as u64, units % ONE as u64)
    }
}

impl fmt::Display for Decimal {
    /// Without zeros at the end, such as `126.55` or `3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fixed = self.to_fixed();
        f.write_str(fixed.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl FromStr for Decimal {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        let wrong = || DecimalError(text.chars().take(40).collect());
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !all_digits(whole) || !all_digits(fraction) {
            return Err(wrong());
        }
        let (kept, rest) = fraction.split_at(fraction.len().min(DIGITS));
        if rest.bytes().any(|byte| byte != b'0') {
            return Err(wrong());
        }
        let whole: i64 = whole.parse().map_err(|_| wrong())?;
        let fraction: i64 = format!("{kept:0<DIGITS$}").parse().map_err(|_| wrong())?;
        let units = whole
            .checked_mul(ONE)
            .and_then(|units| units.checked_add(fraction))
            .ok_or_else(wrong)?;
        Ok(Self(if negative { -units } else { units }))
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyNumber)
    }
}

struct AnyNumber;

impl Visitor<'_> for AnyNumber {
    type Value = Decimal;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a decimal number, as text or as a number")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Decimal, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Decimal, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Decimal, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Decimal, E> {
        // The shortest text that means the same float, never with an exponent; exchanges that send floats round.
        let text = format!("{number}");
        text.parse()
            .or_else(|_| format!("{number:.DIGITS$}").parse())
            .map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_and_numbers_are_read() {
        for (json, text) in [
            (r#""0.00100000""#, "0.001"),
            (r#""100""#, "100"),
            ("126.55", "126.55"),
            ("3", "3"),
            ("-0.5", "-0.5"),
            ("1e-7", "0.0000001"),
            ("0.1234567891", "0.12345679"),
        ] {
            let decimal: Decimal = serde_json::from_str(json).unwrap();
            assert_eq!(decimal.to_string(), text, "{json}");
        }
        assert_eq!("0.001".parse::<Decimal>().unwrap().to_fixed(), "0.00100000");
    }

    #[test]
    fn what_is_no_number_or_does_not_fit_is_refused() {
        for text in [
            "",
            "-",
            ".",
            "1.",
            ".5",
            "+1",
            "1e5",
            "NaN",
            "0.123456789",
            "99999999999999999999",
            "92233720368.54775808",
        ] {
            assert!(text.parse::<Decimal>().is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Decimal>("1e300").is_err());
        assert!(serde_json::from_str::<Decimal>("null").is_err());
    }

    proptest! {
        #[test]
        fn every_number_reads_as_it_was_written(units in (i64::MIN + 1)..=i64::MAX) {
            let decimal = Decimal::from_units(units);
            prop_assert_eq!(decimal.to_string().parse(), Ok(decimal));
            prop_assert_eq!(decimal.to_fixed().parse(), Ok(decimal));
        }
    }
}
