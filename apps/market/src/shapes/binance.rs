//! Binance's spot market streams: raw and combined, trades and best offers.

use serde::{Deserialize, Serialize};

use super::{Exchange, Quote, ShapeError, Tick, Update};
use crate::Decimal;

/// All fields of all messages that are read. `T` and `t`, `b` and `B` are different fields.
#[derive(Debug, Default, Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    data: Option<&'a serde_json::value::RawValue>,
    #[serde(rename = "e")]
    event: Option<String>,
    #[serde(rename = "s")]
    symbol: Option<String>,
    #[serde(rename = "t")]
    trade_id: Option<u64>,
    #[serde(rename = "p")]
    price: Option<Decimal>,
    #[serde(rename = "q")]
    quantity: Option<Decimal>,
    #[serde(rename = "T")]
    trade_time: Option<i64>,
    #[serde(rename = "u")]
    update_id: Option<u64>,
    // In trades of older versions `b` and `a` are numbers of orders.
    #[serde(rename = "b")]
    bid: Option<Decimal>,
    #[serde(rename = "B")]
    bid_quantity: Option<Decimal>,
    #[serde(rename = "a")]
    ask: Option<Decimal>,
    #[serde(rename = "A")]
    ask_quantity: Option<Decimal>,
    id: Option<serde_json::Value>,
    result: Option<serde_json::Value>,
    code: Option<i64>,
    msg: Option<String>,
}

/// Times above are microseconds: as milliseconds it is the year 5138.
const LARGEST_MILLISECOND: i64 = 100_000_000_000_000;

/// Everything that one message says.
///
/// # Errors
/// [`ShapeError`].
pub fn read(message: &[u8]) -> Result<Vec<Update>, ShapeError> {
    let malformed = |source| ShapeError::Malformed {
        exchange: Exchange::Binance,
        source,
    };
    let mut read: Message<'_> = serde_json::from_slice(message).map_err(malformed)?;
    if let Some(data) = read.data {
        read = serde_json::from_str(data.get()).map_err(malformed)?;
    }
    Ok(vec![match read.event.as_deref() {
        Some("trade") => trade(read)?,
        Some(other) => Update::Other(other.to_owned()),
        None if read.update_id.is_some() => quote(read)?,
        None if read.code.is_some() => Update::Refused {
            code: read.code.unwrap_or_default(),
            message: read.msg.unwrap_or_default(),
        },
        None if read.id.is_some() => Update::Done(read.result.unwrap_or_default().to_string()),
        None => Update::Other(String::new()),
    }])
}

fn trade(message: Message<'_>) -> Result<Update, ShapeError> {
    let missing = |field| ShapeError::Missing {
        exchange: Exchange::Binance,
        what: "trade",
        field,
    };
    Ok(Update::Trade(Tick {
        exchange: Exchange::Binance,
        symbol: message.symbol.ok_or_else(|| missing("s"))?,
        price: message.price.ok_or_else(|| missing("p"))?,
        size: message.quantity.ok_or_else(|| missing("q"))?,
        trade_id: message.trade_id.ok_or_else(|| missing("t"))?,
        event_time_ns: nanoseconds(message.trade_time.ok_or_else(|| missing("T"))?)?,
    }))
}

fn quote(message: Message<'_>) -> Result<Update, ShapeError> {
    let missing = |field| ShapeError::Missing {
        exchange: Exchange::Binance,
        what: "bookTicker",
        field,
    };
    Ok(Update::Quote(Quote {
        exchange: Exchange::Binance,
        symbol: message.symbol.ok_or_else(|| missing("s"))?,
        bid: message.bid.ok_or_else(|| missing("b"))?,
        bid_size: message.bid_quantity.ok_or_else(|| missing("B"))?,
        ask: message.ask.ok_or_else(|| missing("a"))?,
        ask_size: message.ask_quantity.ok_or_else(|| missing("A"))?,
        event_time_ns: None,
    }))
}

/// Milliseconds, or microseconds where the URL asked for them (`timeUnit=MICROSECOND`).
fn nanoseconds(time: i64) -> Result<i64, ShapeError> {
    let unit = if time.abs() < LARGEST_MILLISECOND {
        1_000_000
    } else {
        1_000
    };
    time.checked_mul(unit).ok_or_else(|| ShapeError::Time {
        exchange: Exchange::Binance,
        text: time.to_string(),
    })
}

#[derive(Serialize)]
struct Request<'a> {
    method: &'static str,
    params: &'a [String],
    id: u64,
}

/// The name of a symbol's trades.
#[must_use]
pub fn trades_of(symbol: &str) -> String {
    format!("{}@trade", symbol.to_ascii_lowercase())
}

/// What asks an open connection for more streams.
#[must_use]
pub fn subscribe(id: u64, streams: &[String]) -> String {
    let request = Request {
        method: "SUBSCRIBE",
        params: streams,
        id,
    };
    serde_json::to_string(&request).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(json: &str) -> Update {
        let mut updates = read(json.as_bytes()).unwrap();
        assert_eq!(updates.len(), 1);
        updates.remove(0)
    }

    #[test]
    fn a_trade_is_read_raw_and_combined() {
        let raw = r#"{"e":"trade","E":1672515782136,"s":"BNBBTC","t":12345,"p":"0.001","q":"100",
            "T":1672515782136,"m":true,"M":true}"#;
        let tick = Tick {
            exchange: Exchange::Binance,
            symbol: "BNBBTC".to_owned(),
            price: "0.001".parse().unwrap(),
            size: "100".parse().unwrap(),
            trade_id: 12345,
            event_time_ns: 1_672_515_782_136_000_000,
        };
        assert_eq!(one(raw), Update::Trade(tick.clone()));
        let combined = format!(r#"{{"stream":"bnbbtc@trade","data":{raw}}}"#);
        assert_eq!(one(&combined), Update::Trade(tick.clone()));
        // With order numbers, as it was before 2024, and in microseconds.
        let older = r#"{"e":"trade","E":1672515782136001,"s":"BNBBTC","t":12345,"p":"0.001","q":"100","b":88,"a":50,
            "T":1672515782136001,"m":true,"M":true}"#;
        let finer = Tick {
            event_time_ns: 1_672_515_782_136_001_000,
            ..tick
        };
        assert_eq!(one(older), Update::Trade(finer));
    }

    #[test]
    fn best_offers_answers_and_refusals_are_read() {
        let quote = one(
            r#"{"u":400900217,"s":"BNBUSDT","b":"25.35190000","B":"31.21000000","a":"25.36520000","A":"40.66000000"}"#,
        );
        let Update::Quote(quote) = quote else {
            panic!("{quote:?}")
        };
        assert_eq!(
            (quote.bid.to_string(), quote.ask_size.to_string()),
            ("25.3519".to_owned(), "40.66".to_owned())
        );
        assert_eq!(one(r#"{"result":null,"id":1}"#), Update::Done("null".to_owned()));
        assert_eq!(
            one(r#"{"code":0,"msg":"Unknown property","id":5}"#),
            Update::Refused {
                code: 0,
                message: "Unknown property".to_owned()
            }
        );
        assert_eq!(
            one(r#"{"e":"aggTrade","E":1,"s":"BNBBTC"}"#),
            Update::Other("aggTrade".to_owned())
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let text = |json: &str| read(json.as_bytes()).unwrap_err().to_string();
        assert_eq!(
            text(r#"{"e":"trade","s":"BNBBTC","t":1,"p":"1","T":1}"#),
            "a binance trade without \"q\""
        );
        assert_eq!(text("[]"), "not a message of binance");
    }

    #[test]
    fn a_subscription_is_asked_for_as_documented() {
        assert_eq!(
            subscribe(1, &[trades_of("BTCUSDT")]),
            r#"{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}"#
        );
    }
}
