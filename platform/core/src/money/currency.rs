//! The currencies of ISO 4217 (Z42).

use std::{fmt, str::FromStr};

/// A currency by its code of three letters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency(iso_currency::Currency);

/// No currency has this code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no currency of ISO 4217")]
pub struct UnknownCurrency(pub String);

impl Currency {
    /// The euro.
    pub const EUR: Self = Self(iso_currency::Currency::EUR);
    /// The dollar of the United States.
    pub const USD: Self = Self(iso_currency::Currency::USD);

    /// The code, such as `EUR`.
    pub fn code(&self) -> &'static str {
        self.0.code()
    }

    /// The name in English.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The code as a number.
    pub fn number(&self) -> u16 {
        self.0.numeric()
    }

    /// How many decimals its smaller unit takes; `None` for what has none, such as gold.
    pub fn decimals(&self) -> Option<u8> {
        self.0.exponent().and_then(|decimals| u8::try_from(decimals).ok())
    }
}

impl FromStr for Currency {
    type Err = UnknownCurrency;

    fn from_str(code: &str) -> Result<Self, UnknownCurrency> {
        iso_currency::Currency::from_code(code)
            .map(Self)
            .ok_or_else(|| UnknownCurrency(code.to_owned()))
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_iso_4217() {
        assert_eq!("EUR".parse(), Ok(Currency::EUR));
        assert_eq!("USD".parse(), Ok(Currency::USD));
        for (code, number, decimals) in [("EUR", 978, 2), ("USD", 840, 2), ("JPY", 392, 0), ("KWD", 414, 3)] {
            let currency: Currency = code.parse().unwrap();
            assert_eq!(
                (currency.number(), currency.decimals()),
                (number, Some(decimals)),
                "{code}"
            );
            assert_eq!(currency.to_string(), code);
        }
        assert_eq!("eur".parse::<Currency>(), Err(UnknownCurrency("eur".to_owned())));
        assert!("XYZ".parse::<Currency>().is_err());
    }
}
