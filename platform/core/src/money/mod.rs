//! Currencies, amounts with a fixed number of decimals, and cash (J4).

mod amount;
mod cash;
mod currency;

pub use amount::{AmountError, DecimalAmount, MAX_PRECISION};
pub use cash::{Cash, CashError, CurrencyMismatch};
pub use currency::{Currency, UnknownCurrency};
