//! The talk of Alpaca's market data stream, version 2: greeting, authentication, subscriptions, arrays of data.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::market::Moment;
use super::{Answer, Talk};

/// How long a client may take to say who it is.
const AUTH_TIME: Duration = Duration::from_secs(10);
/// Data points in one array.
const MAX_ARRAY: usize = 100;
/// The kinds of data that a client may ask for, but which are not simulated.
const OTHER_KINDS: [&str; 7] = [
    "bars",
    "updatedBars",
    "dailyBars",
    "statuses",
    "lulds",
    "corrections",
    "cancelErrors",
];

/// What a client has to know, and how much it may ask for.
#[derive(Clone)]
pub struct Account {
    /// Its key.
    pub key: String,
    /// Its secret.
    pub secret: String,
    /// Symbols of trades and quotes together.
    pub symbol_limit: usize,
}

impl std::fmt::Debug for Account {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account")
            .field("key", &self.key)
            .field("symbol_limit", &self.symbol_limit)
            .finish_non_exhaustive()
    }
}

/// One client of it.
#[derive(Debug)]
pub struct Client {
    account: Arc<Account>,
    authenticated: bool,
    trades: BTreeSet<String>,
    quotes: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
struct Request {
    action: String,
    #[serde(default)]
    key: String,
    #[serde(default)]
    secret: String,
    #[serde(default)]
    trades: Vec<String>,
    #[serde(default)]
    quotes: Vec<String>,
    #[serde(flatten)]
    other: serde_json::Map<String, Value>,
}

impl Client {
    /// A client that connects; `credentials` are those of the headers `APCA-API-KEY-ID` and `APCA-API-SECRET-KEY`.
    #[must_use]
    pub fn connect(account: Arc<Account>, credentials: Option<(&str, &str)>) -> Self {
        let authenticated = credentials.is_some_and(|credentials| account.knows(credentials));
        Self {
            account,
            authenticated,
            trades: BTreeSet::new(),
            quotes: BTreeSet::new(),
        }
    }

    fn subscribe(&mut self, request: Request, wanted: bool) -> Answer {
        if !self.authenticated {
            return error(401, "not authenticated");
        }
        if OTHER_KINDS.iter().any(|kind| {
            let symbols = request.other.get(*kind).and_then(Value::as_array);
            symbols.is_some_and(|symbols| !symbols.is_empty())
        }) {
            return error(410, "invalid subscribe action for this feed");
        }
        let (mut trades, mut quotes) = (self.trades.clone(), self.quotes.clone());
        for (all, symbols) in [(&mut trades, request.trades), (&mut quotes, request.quotes)] {
            for symbol in symbols {
                if wanted {
                    all.insert(symbol);
                } else {
                    all.remove(&symbol);
                }
            }
        }
        if trades.len() + quotes.len() > self.account.symbol_limit {
            return error(405, "symbol limit exceeded");
        }
        (self.trades, self.quotes) = (trades, quotes);
        let mut answer = json!({"T": "subscription", "trades": self.trades, "quotes": self.quotes});
        for kind in OTHER_KINDS {
            answer[kind] = json!([]);
        }
        Answer::text(json!([answer]).to_string())
    }
}

impl Account {
    fn knows(&self, (key, secret): (&str, &str)) -> bool {
        self.key == key && self.secret == secret
    }
}

fn success(message: &str) -> String {
    json!([{"T": "success", "msg": message}]).to_string()
}

fn error(code: u16, message: &str) -> Answer {
    Answer::text(error_text(code, message))
}

fn error_text(code: u16, message: &str) -> String {
    json!([{"T": "error", "code": code, "msg": message}]).to_string()
}

impl Talk for Client {
    fn greet(&mut self) -> Vec<String> {
        let mut texts = vec![success("connected")];
        if self.authenticated {
            texts.push(success("authenticated"));
        }
        texts
    }

    fn hear(&mut self, text: &str, _since: Duration) -> Answer {
        let Ok(request) = serde_json::from_str::<Request>(text) else {
            return error(400, "invalid syntax");
        };
        match request.action.as_str() {
            "auth" if self.authenticated => error(403, "already authenticated"),
            "auth" if self.account.knows((&request.key, &request.secret)) => {
                self.authenticated = true;
                Answer::text(success("authenticated"))
            }
            "auth" => error(402, "auth failed"),
            "subscribe" => self.subscribe(request, true),
            "unsubscribe" => self.subscribe(request, false),
            _ => error(400, "invalid syntax"),
        }
    }

    fn tell(&mut self, moments: &[Moment], texts: &mut Vec<String>) {
        let wants =
            |symbols: &BTreeSet<String>, symbol: &str| symbols.contains("*") || symbols.contains(symbol);
        let (mut array, mut count) = (String::from("["), 0);
        for moment in moments {
            for (symbols, data) in [
                (&self.trades, trade as fn(&Moment) -> String),
                (&self.quotes, quote),
            ] {
                if !wants(symbols, &moment.symbol) {
                    continue;
                }
                if count > 0 {
                    array.push(',');
                }
                array.push_str(&data(moment));
                count += 1;
                if count == MAX_ARRAY {
                    array.push(']');
                    texts.push(std::mem::replace(&mut array, String::from("[")));
                    count = 0;
                }
            }
        }
        if count > 0 {
            array.push(']');
            texts.push(array);
        }
    }

    fn wait(&mut self, since: Duration) -> Answer {
        if self.authenticated || since < AUTH_TIME {
            return Answer::default();
        }
        Answer {
            close: Some("auth timeout"),
            ..error(404, "auth timeout")
        }
    }

    fn too_slow(&self) -> Option<String> {
        Some(error_text(407, "slow client"))
    }
}

fn trade(moment: &Moment) -> String {
    let mut text = String::with_capacity(160);
    // Writing to text does not fail.
    let _ = write!(
        text,
        r#"{{"T":"t","i":{},"S":"{}","x":"D","p":{},"s":{},"t":"{}","c":["@","I"],"z":"C"}}"#,
        moment.trade_id,
        moment.symbol,
        moment.price,
        moment.size,
        time(moment),
    );
    text
}

fn quote(moment: &Moment) -> String {
    format!(
        r#"{{"T":"q","S":"{}","bx":"U","bp":{},"bs":{},"ax":"Q","ap":{},"as":{},"t":"{}","c":["R"],"z":"C"}}"#,
        moment.symbol,
        moment.bid,
        moment.bid_size,
        moment.ask,
        moment.ask_size,
        time(moment),
    )
}

fn time(moment: &Moment) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(moment.time_ns))
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Arc<Account> {
        Arc::new(Account {
            key: "k".to_owned(),
            secret: "s".to_owned(),
            symbol_limit: 3,
        })
    }

    fn moment(trade_id: u64) -> Moment {
        Moment {
            symbol: "AAPL".into(),
            trade_id,
            price: "126.55".parse().unwrap(),
            size: "1".parse().unwrap(),
            buyer_is_maker: true,
            bid: "126.55".parse().unwrap(),
            bid_size: "1".parse().unwrap(),
            ask: "126.57".parse().unwrap(),
            ask_size: "4".parse().unwrap(),
            time_ns: 1_614_009_105_335_689_322,
        }
    }

    fn ask(client: &mut Client, request: &str) -> String {
        client.hear(request, Duration::ZERO).texts.remove(0)
    }

    fn authenticated() -> Client {
        Client::connect(account(), Some(("k", "s")))
    }

    #[test]
    fn a_client_says_who_it_is_first() {
        let mut client = Client::connect(account(), None);
        assert_eq!(client.greet(), [r#"[{"T":"success","msg":"connected"}]"#]);
        for (request, answer) in [
            (
                r#"{"action":"subscribe","trades":["AAPL"]}"#,
                r#"[{"T":"error","code":401,"msg":"not authenticated"}]"#,
            ),
            (
                r#"{"action":"auth","key":"k","secret":"x"}"#,
                r#"[{"T":"error","code":402,"msg":"auth failed"}]"#,
            ),
            (
                r#"{"action":"auth","key":"k","secret":"s"}"#,
                r#"[{"T":"success","msg":"authenticated"}]"#,
            ),
            (
                r#"{"action":"auth","key":"k","secret":"s"}"#,
                r#"[{"T":"error","code":403,"msg":"already authenticated"}]"#,
            ),
            (
                "subscribe",
                r#"[{"T":"error","code":400,"msg":"invalid syntax"}]"#,
            ),
            (
                r#"{"action":"buy"}"#,
                r#"[{"T":"error","code":400,"msg":"invalid syntax"}]"#,
            ),
        ] {
            let (answer, said): (Value, Value) = (
                serde_json::from_str(answer).unwrap(),
                serde_json::from_str(&ask(&mut client, request)).unwrap(),
            );
            assert_eq!(said, answer, "{request}");
        }
        assert_eq!(authenticated().greet().len(), 2, "headers do as well");
    }

    #[test]
    fn who_does_not_say_who_it_is_is_let_go() {
        let mut client = Client::connect(account(), None);
        assert_eq!(client.wait(Duration::from_secs(9)), Answer::default());
        let answer = client.wait(Duration::from_secs(10));
        assert_eq!(
            serde_json::from_str::<Value>(&answer.texts[0]).unwrap(),
            json!([{"T": "error", "code": 404, "msg": "auth timeout"}])
        );
        assert!(answer.close.is_some());
        assert_eq!(authenticated().wait(Duration::from_secs(60)), Answer::default());
    }

    #[test]
    fn subscriptions_are_told_whole() {
        let mut client = authenticated();
        let mut said = |request: &str| serde_json::from_str::<Value>(&ask(&mut client, request)).unwrap();
        let answer = said(r#"{"action":"subscribe","trades":["AAPL"],"quotes":["AMD","CLDR"]}"#);
        assert_eq!(answer[0]["T"], "subscription");
        assert_eq!(answer[0]["trades"], json!(["AAPL"]));
        assert_eq!(answer[0]["quotes"], json!(["AMD", "CLDR"]));
        assert_eq!(answer[0]["bars"], json!([]));
        let refused = said(r#"{"action":"subscribe","trades":["MSFT"]}"#);
        assert_eq!(refused[0]["code"], 405);
        let refused = said(r#"{"action":"subscribe","bars":["*"]}"#);
        assert_eq!(refused[0]["code"], 410);
        let answer = said(r#"{"action":"unsubscribe","quotes":["AMD","CLDR"]}"#);
        assert_eq!(
            (&answer[0]["trades"], &answer[0]["quotes"]),
            (&json!(["AAPL"]), &json!([]))
        );
    }

    #[test]
    fn data_has_the_documented_shape() {
        let mut client = authenticated();
        ask(
            &mut client,
            r#"{"action":"subscribe","trades":["AAPL"],"quotes":["*"]}"#,
        );
        let mut texts = Vec::new();
        client.tell(&[moment(96921)], &mut texts);
        assert_eq!(
            texts,
            [concat!(
                r#"[{"T":"t","i":96921,"S":"AAPL","x":"D","p":126.55,"s":1,"t":"2021-02-22T15:51:45.335689322Z","c":["@","I"],"z":"C"},"#,
                r#"{"T":"q","S":"AAPL","bx":"U","bp":126.55,"bs":1,"ax":"Q","ap":126.57,"as":4,"t":"2021-02-22T15:51:45.335689322Z","c":["R"],"z":"C"}]"#
            )]
        );
        let updates = crate::shapes::alpaca::read(texts[0].as_bytes()).unwrap();
        assert!(matches!(&updates[0], crate::shapes::Update::Trade(tick)
            if tick.trade_id == 96921 && tick.event_time_ns == 1_614_009_105_335_689_322));
    }

    #[test]
    fn arrays_are_bounded_and_none_is_empty() {
        let mut client = authenticated();
        let mut texts = Vec::new();
        client.tell(&[moment(1)], &mut texts);
        assert!(texts.is_empty(), "nothing is subscribed");
        ask(&mut client, r#"{"action":"subscribe","trades":["AAPL"]}"#);
        let moments: Vec<_> = (1..=200).map(moment).collect();
        client.tell(&moments, &mut texts);
        let lengths: Vec<_> = texts
            .iter()
            .map(|text| serde_json::from_str::<Vec<Value>>(text).unwrap().len())
            .collect();
        assert_eq!(lengths, [100, 100]);
    }
}
