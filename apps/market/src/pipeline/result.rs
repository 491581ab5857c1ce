//! What the workers publish, as clients read it.

use serde::Deserialize;

use crate::Decimal;
use crate::shapes::{Exchange, Tick};

/// A trade with the average up to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Averaged {
    /// The trade.
    pub tick: Tick,
    /// The mean price of the last trades, this one included.
    pub average: f64,
    /// How many trades that is.
    pub samples: u32,
}

/// Why an event is no result of ours.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// Not the JSON that the workers write.
    #[error("not a result: {0}")]
    Json(#[from] serde_json::Error),
    /// An exchange that is none of ours.
    #[error("no exchange {0:?}")]
    Exchange(String),
    /// A price or size that is no number.
    #[error("no number {0:?}")]
    Number(String),
}

/// The trades of one event, read from its data.
#[derive(Debug, Clone, PartialEq)]
pub struct Results(pub Vec<Averaged>);

#[derive(Deserialize)]
struct Data {
    exchange: String,
    ticks: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    symbol: String,
    price: String,
    size: String,
    trade_id: u64,
    time_ns: i64,
    average: f64,
    samples: u32,
}

impl Results {
    /// Reads an event's data.
    ///
    /// # Errors
    /// [`ResultError`].
    pub fn read(data: &[u8]) -> Result<Self, ResultError> {
        let data: Data = serde_json::from_slice(data)?;
        let exchange = Exchange::named(&data.exchange).ok_or(ResultError::Exchange(data.exchange))?;
        let number = |text: &str| -> Result<Decimal, ResultError> {
            text.parse().map_err(|_| ResultError::Number(text.to_owned()))
        };
        let ticks = data.ticks.into_iter().map(|entry| {
            Ok(Averaged {
                tick: Tick {
                    exchange,
                    price: number(&entry.price)?,
                    size: number(&entry.size)?,
                    symbol: entry.symbol,
                    trade_id: entry.trade_id,
                    event_time_ns: entry.time_ns,
                },
                average: entry.average,
                samples: entry.samples,
            })
        });
        ticks.collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_worker_writes_is_read() {
        let data = br#"{"exchange": "alpaca", "ticks": [{"symbol": "AAPL", "price": "126.5", "size": "1",
            "trade_id": 5, "time_ns": 1614009104208000000, "average": 126.25, "samples": 2}]}"#;
        let Results(results) = Results::read(data).unwrap();
        assert_eq!(results[0].tick.symbol, "AAPL");
        assert_eq!(results[0].tick.price.to_string(), "126.5");
        assert_eq!(results[0].samples, 2);
    }

    #[test]
    fn what_is_none_is_an_error() {
        assert!(Results::read(b"{}").is_err());
        let other = br#"{"exchange": "lse", "ticks": []}"#;
        assert!(matches!(Results::read(other), Err(ResultError::Exchange(_))));
        let price = br#"{"exchange": "binance", "ticks": [{"symbol": "B", "price": "much", "size": "1", "trade_id": 1,
            "time_ns": 1, "average": 1, "samples": 1}]}"#;
        assert!(matches!(Results::read(price), Err(ResultError::Number(_))));
    }
}
