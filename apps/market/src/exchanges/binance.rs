//! The talk of Binance's spot market streams.
//!
//! Streams `<symbol>@trade` and `<symbol>@bookTicker`, raw (`/ws/<stream>`, `/ws`) and combined
//! (`/stream?streams=a/b`), `timeUnit=MICROSECOND`, and the requests of an open connection. Streams that are not
//! simulated are refused, because silence would look like a quiet market.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::market::Moment;
use super::{Answer, Talk};

/// Streams of one connection.
const MAX_STREAMS: usize = 1024;
/// Messages that a client may send within a second.
const MAX_MESSAGES: usize = 5;
const VARIANTS: &str = "`SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`";

/// One client of it.
#[derive(Debug)]
pub struct Client {
    symbols: Arc<BTreeSet<String>>,
    streams: BTreeSet<String>,
    combined: bool,
    microseconds: bool,
    /// When the last messages came.
    heard: Vec<Duration>,
}

/// Why a URL leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Neither `/ws` nor `/stream`.
    #[error("no streams at this path")]
    Unknown,
    /// A stream that is not simulated.
    #[error("stream {0:?} is not simulated")]
    Stream(String),
    /// More than fit into one connection.
    #[error("more than {MAX_STREAMS} streams")]
    TooMany,
}

impl Client {
    /// A client that connects to a path with a query. `symbols` are in lower case.
    ///
    /// # Errors
    /// [`PathError`].
    pub fn connect(path: &str, query: &str, symbols: Arc<BTreeSet<String>>) -> Result<Self, PathError> {
        let pairs: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).collect();
        let value = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value);
        let (combined, names) = if let Some(rest) = path.strip_prefix("/ws") {
            (false, rest.trim_start_matches('/').to_owned())
        } else if path.trim_end_matches('/') == "/stream" {
            (
                true,
                value("streams").map_or_else(String::new, ToString::to_string),
            )
        } else {
            return Err(PathError::Unknown);
        };
        let mut client = Self {
            symbols,
            streams: BTreeSet::new(),
            combined,
            microseconds: value("timeUnit").is_some_and(|unit| unit.eq_ignore_ascii_case("microsecond")),
            heard: Vec::new(),
        };
        for name in names.split('/').filter(|name| !name.is_empty()) {
            client.add(name)?;
        }
        Ok(client)
    }

    fn add(&mut self, stream: &str) -> Result<(), PathError> {
        let is_known = stream.split_once('@').is_some_and(|(symbol, kind)| {
            self.symbols.contains(symbol) && matches!(kind, "trade" | "bookTicker")
        });
        if !is_known {
            return Err(PathError::Stream(stream.chars().take(100).collect()));
        }
        if self.streams.len() >= MAX_STREAMS && !self.streams.contains(stream) {
            return Err(PathError::TooMany);
        }
        self.streams.insert(stream.to_owned());
        Ok(())
    }

    fn request(&mut self, text: &str) -> Result<Value, Value> {
        let refuse = |message: &str| json!({"code": 2, "msg": format!("Invalid request: {message}")});
        let request: Value = serde_json::from_str(text).map_err(|error| {
            let message = format!(
                "Invalid JSON: expected value at line {} column {}",
                error.line(),
                error.column()
            );
            json!({"code": 3, "msg": message})
        })?;
        let id = request.get("id").cloned().unwrap_or_default();
        let is_id = match &id {
            Value::Null => request.get("id").is_some(),
            Value::Number(number) => number.is_i64() || number.is_u64(),
            Value::String(text) => text.len() <= 36 && text.bytes().all(|byte| byte.is_ascii_alphanumeric()),
            _ => false,
        };
        if !is_id {
            return Err(refuse("request ID must be an unsigned integer"));
        }
        let with_id = |mut answer: Value| {
            answer["id"] = id.clone();
            answer
        };
        let params = || match request.get("params") {
            Some(Value::Array(params)) => Ok(params.as_slice()),
            _ => Err(with_id(refuse("params must be an array"))),
        };
        let names = || {
            let names: Option<Vec<&str>> = params()?.iter().map(Value::as_str).collect();
            names.ok_or_else(|| with_id(refuse("parameters must be strings")))
        };
        let result = match request.get("method").and_then(Value::as_str) {
            None => return Err(with_id(refuse("method name must be string"))),
            Some("SUBSCRIBE") => {
                let before = self.streams.clone();
                for name in names()? {
                    if let Err(error) = self.add(name) {
                        self.streams = before;
                        return Err(with_id(refuse(&error.to_string())));
                    }
                }
                Value::Null
            }
            Some("UNSUBSCRIBE") => {
                for name in names()? {
                    self.streams.remove(name);
                }
                Value::Null
            }
            Some("LIST_SUBSCRIPTIONS") => json!(self.streams),
            Some(method @ ("SET_PROPERTY" | "GET_PROPERTY")) => {
                let params = params()?;
                match params.first() {
                    Some(Value::String(name)) if name == "combined" => {}
                    Some(Value::String(_)) => {
                        return Err(with_id(json!({"code": 0, "msg": "Unknown property"})));
                    }
                    _ => return Err(with_id(refuse("property name must be a string"))),
                }
                if method == "GET_PROPERTY" {
                    Value::from(self.combined)
                } else {
                    let Some(Value::Bool(combined)) = params.get(1) else {
                        let message = "Invalid value type: expected Boolean";
                        return Err(with_id(json!({"code": 1, "msg": message})));
                    };
                    self.combined = *combined;
                    Value::Null
                }
            }
            Some(other) => {
                let other: String = other.chars().take(40).collect();
                let message = format!("unknown variant `{other}`, expected one of {VARIANTS}");
                return Err(with_id(refuse(&message)));
            }
        };
        Ok(json!({"result": result, "id": id}))
    }

    fn wrapped(&self, stream: &str, payload: String) -> String {
        if self.combined {
            format!(r#"{{"stream":"{stream}","data":{payload}}}"#)
        } else {
            payload
        }
    }
}

impl Talk for Client {
    fn greet(&mut self) -> Vec<String> {
        Vec::new()
    }

    fn hear(&mut self, text: &str, since: Duration) -> Answer {
        self.heard
            .retain(|heard| since.saturating_sub(*heard) < Duration::from_secs(1));
        self.heard.push(since);
        if self.heard.len() > MAX_MESSAGES {
            return Answer {
                texts: Vec::new(),
                close: Some("Too many requests"),
            };
        }
        let (Ok(answer) | Err(answer)) = self.request(text);
        Answer::text(answer.to_string())
    }

    fn tell(&mut self, moments: &[Moment], texts: &mut Vec<String>) {
        if self.streams.is_empty() {
            return;
        }
        for moment in moments {
            let mut stream = moment.symbol.to_ascii_lowercase();
            let symbol = stream.len();
            stream.push_str("@trade");
            if self.streams.contains(&stream) {
                texts.push(self.wrapped(&stream, trade(moment, self.microseconds)));
            }
            stream.truncate(symbol);
            stream.push_str("@bookTicker");
            if self.streams.contains(&stream) {
                texts.push(self.wrapped(&stream, book_ticker(moment)));
            }
        }
    }

    fn wait(&mut self, _since: Duration) -> Answer {
        Answer::default()
    }

    fn too_slow(&self) -> Option<String> {
        None
    }
}

fn trade(moment: &Moment, microseconds: bool) -> String {
    let time = moment.time_ns / if microseconds { 1_000 } else { 1_000_000 };
    let mut text = String::with_capacity(160);
    // Writing to text does not fail.
    let _ = write!(
        text,
        r#"{{"e":"trade","E":{time},"s":"{}","t":{},"p":"{}","q":"{}","T":{time},"m":{},"M":true}}"#,
        moment.symbol,
        moment.trade_id,
        moment.price.to_fixed(),
        moment.size.to_fixed(),
        moment.buyer_is_maker,
    );
    text
}

fn book_ticker(moment: &Moment) -> String {
    format!(
        r#"{{"u":{},"s":"{}","b":"{}","B":"{}","a":"{}","A":"{}"}}"#,
        moment.trade_id,
        moment.symbol,
        moment.bid.to_fixed(),
        moment.bid_size.to_fixed(),
        moment.ask.to_fixed(),
        moment.ask_size.to_fixed(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment() -> Moment {
        Moment {
            symbol: "BNBBTC".into(),
            trade_id: 12345,
            price: "0.001".parse().unwrap(),
            size: "100".parse().unwrap(),
            buyer_is_maker: true,
            bid: "0.001".parse().unwrap(),
            bid_size: "31.21".parse().unwrap(),
            ask: "0.0011".parse().unwrap(),
            ask_size: "40.66".parse().unwrap(),
            time_ns: 1_672_515_782_136_000_001,
        }
    }

    fn client(path: &str, query: &str) -> Client {
        Client::connect(path, query, Arc::new(BTreeSet::from(["bnbbtc".to_owned()]))).unwrap()
    }

    fn told(client: &mut Client) -> Vec<String> {
        let mut texts = Vec::new();
        client.tell(&[moment()], &mut texts);
        texts
    }

    fn ask(client: &mut Client, request: &str) -> String {
        client.heard.clear();
        client.hear(request, Duration::ZERO).texts.remove(0)
    }

    const TRADE: &str = r#"{"e":"trade","E":1672515782136,"s":"BNBBTC","t":12345,"p":"0.00100000","q":"100.00000000","T":1672515782136,"m":true,"M":true}"#;
    const BOOK: &str =
        r#"{"u":12345,"s":"BNBBTC","b":"0.00100000","B":"31.21000000","a":"0.00110000","A":"40.66000000"}"#;

    #[test]
    fn messages_have_the_documented_shape() {
        assert_eq!(told(&mut client("/ws/bnbbtc@trade", "")), [TRADE]);
        assert_eq!(
            told(&mut client("/ws/bnbbtc@trade/bnbbtc@bookTicker", "")),
            [TRADE, BOOK]
        );
        assert_eq!(
            told(&mut client("/stream", "streams=bnbbtc@trade/bnbbtc@bookTicker")),
            [
                format!(r#"{{"stream":"bnbbtc@trade","data":{TRADE}}}"#),
                format!(r#"{{"stream":"bnbbtc@bookTicker","data":{BOOK}}}"#)
            ]
        );
        let finer = told(&mut client("/ws/bnbbtc@trade", "timeUnit=MICROSECOND"));
        assert!(finer[0].contains(r#""E":1672515782136000,"#), "{finer:?}");
        assert!(told(&mut client("/ws", "")).is_empty());
    }

    #[test]
    fn what_the_server_writes_is_read_again() {
        let texts = told(&mut client("/stream", "streams=bnbbtc@trade/bnbbtc@bookTicker"));
        let read = |text: &String| crate::shapes::binance::read(text.as_bytes()).unwrap().remove(0);
        let updates: Vec<_> = texts.iter().map(read).collect();
        assert!(matches!(&updates[0], crate::shapes::Update::Trade(tick) if tick.trade_id == 12345));
        assert!(matches!(&updates[1], crate::shapes::Update::Quote(quote) if quote.bid == moment().bid));
    }

    #[test]
    fn paths_that_lead_nowhere_are_refused() {
        let connect = |path: &str, query: &str| {
            let symbols = Arc::new(BTreeSet::from(["bnbbtc".to_owned()]));
            Client::connect(path, query, symbols).unwrap_err()
        };
        assert_eq!(connect("/api/v3/ping", ""), PathError::Unknown);
        assert_eq!(
            connect("/ws/ethbtc@trade", ""),
            PathError::Stream("ethbtc@trade".to_owned())
        );
        assert_eq!(
            connect("/stream", "streams=bnbbtc@depth"),
            PathError::Stream("bnbbtc@depth".to_owned())
        );
    }

    #[test]
    fn an_open_connection_takes_requests() {
        let mut client = client("/ws", "");
        for (request, answer) in [
            (
                r#"{"method":"SUBSCRIBE","params":["bnbbtc@trade","bnbbtc@bookTicker"],"id":1}"#,
                r#"{"id":1,"result":null}"#,
            ),
            (
                r#"{"method":"LIST_SUBSCRIPTIONS","id":"abc"}"#,
                r#"{"id":"abc","result":["bnbbtc@bookTicker","bnbbtc@trade"]}"#,
            ),
            (
                r#"{"method":"UNSUBSCRIBE","params":["bnbbtc@bookTicker"],"id":312}"#,
                r#"{"id":312,"result":null}"#,
            ),
            (
                r#"{"method":"GET_PROPERTY","params":["combined"],"id":2}"#,
                r#"{"id":2,"result":false}"#,
            ),
            (
                r#"{"method":"SET_PROPERTY","params":["combined",true],"id":5}"#,
                r#"{"id":5,"result":null}"#,
            ),
        ] {
            assert_eq!(ask(&mut client, request), answer, "{request}");
        }
        assert_eq!(
            told(&mut client),
            [format!(r#"{{"stream":"bnbbtc@trade","data":{TRADE}}}"#)]
        );
    }

    #[test]
    fn wrong_requests_are_refused_with_the_documented_codes() {
        let mut client = client("/ws", "");
        for (request, code, message) in [
            ("{", 3, "Invalid JSON: expected value at line 1 column 1"),
            (
                r#"{"method":"SUBSCRIBE","params":[]}"#,
                2,
                "Invalid request: request ID must be an unsigned integer",
            ),
            (
                r#"{"method":"SUBSCRIBE","params":[],"id":1.5}"#,
                2,
                "Invalid request: request ID must be an unsigned integer",
            ),
            (
                r#"{"method":7,"id":1}"#,
                2,
                "Invalid request: method name must be string",
            ),
            (
                r#"{"method":"SUBSCRIBE","id":1}"#,
                2,
                "Invalid request: params must be an array",
            ),
            (
                r#"{"method":"SUBSCRIBE","params":[1],"id":1}"#,
                2,
                "Invalid request: parameters must be strings",
            ),
            (
                r#"{"method":"SUBSCRIBE","params":["bnbbtc@trade","x@trade"],"id":1}"#,
                2,
                "Invalid request: stream \"x@trade\" is not simulated",
            ),
            (
                r#"{"method":"GET_PROPERTY","params":["x"],"id":1}"#,
                0,
                "Unknown property",
            ),
            (
                r#"{"method":"SET_PROPERTY","params":["combined",1],"id":1}"#,
                1,
                "Invalid value type: expected Boolean",
            ),
        ] {
            let answer: Value = serde_json::from_str(&ask(&mut client, request)).unwrap();
            assert_eq!(
                (answer["code"].as_i64(), answer["msg"].as_str()),
                (Some(code), Some(message)),
                "{request}"
            );
        }
        assert!(client.streams.is_empty(), "a refused request changes nothing");
    }

    #[test]
    fn who_asks_too_often_is_let_go() {
        let mut client = client("/ws", "");
        let request = r#"{"method":"LIST_SUBSCRIPTIONS","id":3}"#;
        for n in 0..20 {
            let answer = client.hear(request, Duration::from_millis(250 * n));
            assert_eq!(answer.close, None, "four in a second");
        }
        let answers: Vec<_> = (0..6)
            .map(|_| client.hear(request, Duration::from_secs(60)))
            .collect();
        assert_eq!(answers[4].close, None);
        assert_eq!(answers[5].close, Some("Too many requests"));
    }
}
