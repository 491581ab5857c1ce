//! Messages of exchanges, read into one shape. Facts are from the exchanges' public documentation.

pub mod alpaca;
pub mod binance;

use serde::{Deserialize, Serialize};

use crate::Decimal;

/// Which exchange's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exchange {
    /// Binance's spot market streams.
    Binance,
    /// Alpaca's market data stream, version 2.
    Alpaca,
}

impl Exchange {
    /// As it is written in settings and topics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Binance => "binance",
            Self::Alpaca => "alpaca",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Binance, Self::Alpaca]
            .into_iter()
            .find(|exchange| exchange.name() == name)
    }

    /// Everything that one message of the exchange says.
    ///
    /// # Errors
    /// [`ShapeError`] when it is none of its messages.
    pub fn read(self, message: &[u8]) -> Result<Vec<Update>, ShapeError> {
        match self {
            Self::Binance => binance::read(message),
            Self::Alpaca => alpaca::read(message),
        }
    }
}

/// One trade.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    /// Where.
    pub exchange: Exchange,
    /// What, as the exchange spells it: `BTCUSDT`, `AAPL`.
    pub symbol: String,
    /// For how much.
    pub price: Decimal,
    /// How many.
    pub size: Decimal,
    /// The exchange's number of the trade; the simulated ones count by one per symbol, so that a gap is a loss.
    pub trade_id: u64,
    /// When it happened at the exchange, in nanoseconds since 1970, as finely as the exchange tells.
    pub event_time_ns: i64,
}

/// The best offers of both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quote {
    /// Where.
    pub exchange: Exchange,
    /// What.
    pub symbol: String,
    /// What buyers offer.
    pub bid: Decimal,
    /// How many they take.
    pub bid_size: Decimal,
    /// What sellers want.
    pub ask: Decimal,
    /// How many they have.
    pub ask_size: Decimal,
    /// When, where the exchange tells; Binance does not.
    pub event_time_ns: Option<i64>,
}

/// One thing that a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// A trade.
    Trade(Tick),
    /// New best offers.
    Quote(Quote),
    /// An answer to what was asked of the exchange: its text.
    Done(String),
    /// A refusal.
    Refused {
        /// The exchange's number for it.
        code: i64,
        /// Its words.
        message: String,
    },
    /// Something else that the exchange may say, by its name.
    Other(String),
}

/// Why a message cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ShapeError {
    /// It is not what the exchange writes.
    #[error("not a message of {}", .exchange.name())]
    Malformed {
        /// Which exchange's it should be.
        exchange: Exchange,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// Something is not there that belongs to it.
    #[error("a {} {what} without {field:?}", .exchange.name())]
    Missing {
        /// Which exchange.
        exchange: Exchange,
        /// Which message.
        what: &'static str,
        /// What is missing.
        field: &'static str,
    },
    /// Its time is none.
    #[error("a time of {} that is none: {text:?}", .exchange.name())]
    Time {
        /// Which exchange.
        exchange: Exchange,
        /// As written.
        text: String,
    },
}
