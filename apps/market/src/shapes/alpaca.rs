//! Alpaca's market data stream, version 2: every message is an array.

use serde::{Deserialize, Serialize};

use super::{Exchange, Quote, ShapeError, Tick, Update};
use crate::Decimal;

/// All fields of all messages that are read.
#[derive(Debug, Deserialize)]
struct Message {
    #[serde(rename = "T")]
    kind: String,
    #[serde(rename = "S")]
    symbol: Option<String>,
    #[serde(rename = "i")]
    trade_id: Option<u64>,
    #[serde(rename = "p")]
    price: Option<Decimal>,
    #[serde(rename = "s")]
    size: Option<Decimal>,
    #[serde(rename = "bp")]
    bid: Option<Decimal>,
    #[serde(rename = "bs")]
    bid_size: Option<Decimal>,
    #[serde(rename = "ap")]
    ask: Option<Decimal>,
    #[serde(rename = "as")]
    ask_size: Option<Decimal>,
    #[serde(rename = "t")]
    time: Option<String>,
    msg: Option<String>,
    code: Option<i64>,
}

/// Everything that one message says.
///
/// # Errors
/// [`ShapeError`].
pub fn read(message: &[u8]) -> Result<Vec<Update>, ShapeError> {
    let messages: Vec<Message> = serde_json::from_slice(message).map_err(|source| ShapeError::Malformed {
        exchange: Exchange::Alpaca,
        source,
    })?;
    messages.into_iter().map(update).collect()
}

fn update(message: Message) -> Result<Update, ShapeError> {
    match message.kind.as_str() {
        "t" => trade(message),
        "q" => quote(message),
        "success" => Ok(Update::Done(message.msg.unwrap_or_default())),
        "subscription" => Ok(Update::Done(message.kind)),
        "error" => Ok(Update::Refused {
            code: message.code.unwrap_or_default(),
            message: message.msg.unwrap_or_default(),
        }),
        _ => Ok(Update::Other(message.kind)),
    }
}

fn trade(message: Message) -> Result<Update, ShapeError> {
    let missing = |field| ShapeError::Missing {
        exchange: Exchange::Alpaca,
        what: "trade",
        field,
    };
    Ok(Update::Trade(Tick {
        exchange: Exchange::Alpaca,
        symbol: message.symbol.ok_or_else(|| missing("S"))?,
        price: message.price.ok_or_else(|| missing("p"))?,
        size: message.size.ok_or_else(|| missing("s"))?,
        trade_id: message.trade_id.ok_or_else(|| missing("i"))?,
        event_time_ns: nanoseconds(message.time.ok_or_else(|| missing("t"))?)?,
    }))
}

fn quote(message: Message) -> Result<Update, ShapeError> {
    let missing = |field| ShapeError::Missing {
        exchange: Exchange::Alpaca,
        what: "quote",
        field,
    };
    Ok(Update::Quote(Quote {
        exchange: Exchange::Alpaca,
        symbol: message.symbol.ok_or_else(|| missing("S"))?,
        bid: message.bid.ok_or_else(|| missing("bp"))?,
        bid_size: message.bid_size.ok_or_else(|| missing("bs"))?,
        ask: message.ask.ok_or_else(|| missing("ap"))?,
        ask_size: message.ask_size.ok_or_else(|| missing("as"))?,
        event_time_ns: Some(nanoseconds(message.time.ok_or_else(|| missing("t"))?)?),
    }))
}

fn nanoseconds(text: String) -> Result<i64, ShapeError> {
    text.parse::<jiff::Timestamp>()
        .ok()
        .and_then(|time| i64::try_from(time.as_nanosecond()).ok())
        .ok_or(ShapeError::Time {
            exchange: Exchange::Alpaca,
            text,
        })
}

#[derive(Serialize)]
struct Auth<'a> {
    action: &'static str,
    key: &'a str,
    secret: &'a str,
}

#[derive(Serialize)]
struct Subscribe<'a> {
    action: &'static str,
    trades: &'a [String],
    quotes: &'a [String],
}

/// What says who one is; within ten seconds of the greeting.
#[must_use]
pub fn auth(key: &str, secret: &str) -> String {
    let message = Auth {
        action: "auth",
        key,
        secret,
    };
    serde_json::to_string(&message).unwrap_or_default()
}

/// What asks for trades and quotes of symbols.
#[must_use]
pub fn subscribe(trades: &[String], quotes: &[String]) -> String {
    let message = Subscribe {
        action: "subscribe",
        trades,
        quotes,
    };
    serde_json::to_string(&message).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trades_and_quotes_of_one_array_are_read() {
        let json = r#"[
            {"T":"t","i":96921,"S":"AAPL","x":"D","p":126.55,"s":1,"t":"2021-02-22T15:51:44.208Z","c":["@","I"],"z":"C"},
            {"T":"q","S":"AMD","bx":"U","bp":87.66,"bs":1,"ax":"Q","ap":87.68,"as":4,
             "t":"2021-02-22T15:51:45.335689322Z","c":["R"],"z":"C"},
            {"T":"b","S":"SPY","o":388.985,"h":389.13,"l":388.975,"c":389.12,"v":49378,"t":"2021-02-22T19:15:00Z"}]"#;
        let updates = read(json.as_bytes()).unwrap();
        assert_eq!(
            updates[0],
            Update::Trade(Tick {
                exchange: Exchange::Alpaca,
                symbol: "AAPL".to_owned(),
                price: "126.55".parse().unwrap(),
                size: "1".parse().unwrap(),
                trade_id: 96921,
                event_time_ns: 1_614_009_104_208_000_000,
            })
        );
        let Update::Quote(quote) = &updates[1] else {
            panic!("{updates:?}")
        };
        assert_eq!(quote.event_time_ns, Some(1_614_009_105_335_689_322));
        assert_eq!(updates[2], Update::Other("b".to_owned()));
    }

    #[test]
    fn control_messages_are_read() {
        let one = |json: &str| read(json.as_bytes()).unwrap().remove(0);
        assert_eq!(
            one(r#"[{"T":"success","msg":"connected"}]"#),
            Update::Done("connected".to_owned())
        );
        assert_eq!(
            one(r#"[{"T":"error","code":402,"msg":"auth failed"}]"#),
            Update::Refused {
                code: 402,
                message: "auth failed".to_owned()
            }
        );
        assert_eq!(
            one(r#"[{"T":"subscription","trades":["AAPL"],"quotes":["AMD"],"bars":["*"]}]"#),
            Update::Done("subscription".to_owned())
        );
    }

    #[test]
    fn a_time_that_is_none_is_named() {
        let json = r#"[{"T":"t","i":1,"S":"AAPL","p":1,"s":1,"t":"noon"}]"#;
        assert_eq!(
            read(json.as_bytes()).unwrap_err().to_string(),
            "a time of alpaca that is none: \"noon\""
        );
    }

    #[test]
    fn what_is_sent_is_as_documented() {
        assert_eq!(auth("k", "s"), r#"{"action":"auth","key":"k","secret":"s"}"#);
        assert_eq!(
            subscribe(&["AAPL".to_owned()], &[]),
            r#"{"action":"subscribe","trades":["AAPL"],"quotes":[]}"#
        );
    }
}
