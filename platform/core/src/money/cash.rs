//! An amount of a currency (J4.1, J4.2).

use std::{cmp::Ordering, fmt};

use super::{AmountError, Currency, DecimalAmount};

/// An amount of a currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cash {
    currency: Currency,
    amount: DecimalAmount,
}

/// Two currencies where there may be only one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{left} and {right} are different currencies")]
pub struct CurrencyMismatch {
    /// That of the left one.
    pub left: Currency,
    /// That of the right one.
    pub right: Currency,
}

/// What cannot be done with cash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CashError {
    /// The currencies differ.
    #[error(transparent)]
    CurrencyMismatch(#[from] CurrencyMismatch),
    /// The amounts cannot be reckoned with.
    #[error(transparent)]
    Amount(#[from] AmountError),
}

impl Cash {
    /// An amount of a currency.
    pub fn new(currency: Currency, amount: DecimalAmount) -> Self {
        Self { currency, amount }
    }

    /// Its currency.
    pub fn currency(self) -> Currency {
        self.currency
    }

    /// How much.
    pub fn amount(self) -> DecimalAmount {
        self.amount
    }

    /// The sum.
    ///
    /// # Errors
    /// [`CashError`].
    pub fn checked_add(self, other: Self) -> Result<Self, CashError> {
        self.like(other)?;
        Ok(Self::new(self.currency, self.amount.checked_add(other.amount)?))
    }

    /// The difference.
    ///
    /// # Errors
    /// [`CashError`].
    pub fn checked_sub(self, other: Self) -> Result<Self, CashError> {
        self.like(other)?;
        Ok(Self::new(self.currency, self.amount.checked_sub(other.amount)?))
    }

    /// As many times as much.
    ///
    /// # Errors
    /// [`CashError::Amount`].
    pub fn checked_mul(self, times: i64) -> Result<Self, CashError> {
        Ok(Self::new(self.currency, self.amount.checked_mul(times)?))
    }

    /// Which one is more.
    ///
    /// # Errors
    /// [`CashError`].
    pub fn checked_cmp(self, other: Self) -> Result<Ordering, CashError> {
        self.like(other)?;
        Ok(self.amount.checked_cmp(other.amount)?)
    }

    fn like(self, other: Self) -> Result<(), CurrencyMismatch> {
        if self.currency == other.currency {
            return Ok(());
        }
        Err(CurrencyMismatch {
            left: self.currency,
            right: other.currency,
        })
    }
}

impl fmt::Display for Cash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount, self.currency)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cash(currency: Currency, cents: i64) -> Cash {
        let amount = DecimalAmount::new(cents / 100, i32::try_from(cents % 100).unwrap(), 2).unwrap();
        Cash::new(currency, amount)
    }

    /// J4.2.
    #[test]
    fn currencies_do_not_mix() {
        let (euros, dollars) = (cash(Currency::EUR, 100), cash(Currency::USD, 100));
        let mismatch = CurrencyMismatch {
            left: Currency::EUR,
            right: Currency::USD,
        };
        assert_eq!(euros.checked_add(dollars), Err(mismatch.into()));
        assert_eq!(euros.checked_sub(dollars), Err(mismatch.into()));
        assert_eq!(euros.checked_cmp(dollars), Err(mismatch.into()));
        assert_eq!(mismatch.to_string(), "EUR and USD are different currencies");
        assert_ne!(euros, dollars);
    }

    #[test]
    fn cash_is_printed_with_its_currency() {
        assert_eq!(cash(Currency::EUR, -105).to_string(), "-1.05 EUR");
    }

    proptest! {
        /// J4.1.
        #[test]
        fn the_same_currency_adds(a in -1_000_000_000_000i64..1_000_000_000_000, b in -1_000_000_000_000i64..1_000_000_000_000) {
            let (x, y) = (cash(Currency::EUR, a), cash(Currency::EUR, b));
            prop_assert_eq!(x.checked_add(y), Ok(cash(Currency::EUR, a + b)));
            prop_assert_eq!(x.checked_sub(y), Ok(cash(Currency::EUR, a - b)));
            prop_assert_eq!(x.checked_mul(3), Ok(cash(Currency::EUR, a * 3)));
            prop_assert_eq!(x.checked_cmp(y), Ok(a.cmp(&b)));
        }

        #[test]
        fn what_does_not_fit_is_an_error(cents in 0i32..100) {
            let most = Cash::new(Currency::USD, DecimalAmount::new(i64::MAX, cents, 2).unwrap());
            prop_assert_eq!(most.checked_add(cash(Currency::USD, 100)), Err(AmountError::Overflow.into()));
        }
    }
}
