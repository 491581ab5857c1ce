//! The simulated exchanges over real sockets.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use outrigger_kit::CancellationToken;
use outrigger_market::exchanges::{Exchange, Options};
use outrigger_market::ledger::Ledger;
use outrigger_market::shapes::{self, Update};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

type Socket = WebSocketStream<TcpStream>;

struct Running {
    address: std::net::SocketAddr,
    closing: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

async fn start(options: Options) -> Running {
    let exchange = Exchange::bind(([127, 0, 0, 1], 0).into(), options).await.unwrap();
    let closing = CancellationToken::new();
    Running {
        address: exchange.address().unwrap(),
        task: tokio::spawn(exchange.run(closing.clone())),
        closing,
    }
}

fn binance(rate: u64) -> Options {
    let symbols = ["BTCUSDT", "ETHUSDT"].map(str::to_owned).to_vec();
    Options::new(shapes::Exchange::Binance, symbols, rate)
}

fn alpaca(rate: u64) -> Options {
    let symbols = ["AAPL", "MSFT"].map(str::to_owned).to_vec();
    Options::new(shapes::Exchange::Alpaca, symbols, rate)
}

impl Running {
    async fn connect(&self, path: &str) -> Result<Socket, Error> {
        let stream = TcpStream::connect(self.address).await?;
        let url = format!("ws://{}{path}", self.address);
        let (socket, _) = tokio_tungstenite::client_async(url, stream).await?;
        Ok(socket)
    }
}

async fn text(socket: &mut Socket) -> String {
    let next = async {
        loop {
            if let Message::Text(text) = socket.next().await.unwrap().unwrap() {
                return text.to_string();
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), next).await.unwrap()
}

/// Reads until so many different ticks were seen.
async fn ticks(socket: &mut Socket, exchange: shapes::Exchange, wanted: u64) -> Ledger {
    let mut ledger = Ledger::default();
    while ledger.report().ticks < wanted {
        let now = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap();
        for update in exchange.read(text(socket).await.as_bytes()).unwrap() {
            if let Update::Trade(tick) = update {
                ledger.record(&tick, now);
            }
        }
    }
    ledger
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_ticks_arrive_without_a_gap() {
    let exchange = start(binance(20_000)).await;
    let streams = "/stream?streams=btcusdt@trade/ethusdt@trade&timeUnit=MICROSECOND";
    let mut socket = exchange.connect(streams).await.unwrap();
    let report = ticks(&mut socket, shapes::Exchange::Binance, 20_000)
        .await
        .report();
    assert_eq!((report.missing, report.repeats), (0, 0), "{report:?}");
    exchange.closing.cancel();
    tokio::time::timeout(Duration::from_secs(20), exchange.task)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_client_of_alpaca_authenticates_and_subscribes() {
    let exchange = start(alpaca(2_000)).await;
    let mut socket = exchange.connect("/v2/test").await.unwrap();
    assert_eq!(text(&mut socket).await, r#"[{"T":"success","msg":"connected"}]"#);
    socket
        .send(Message::text(shapes::alpaca::auth("key", "secret")))
        .await
        .unwrap();
    assert_eq!(
        text(&mut socket).await,
        r#"[{"T":"success","msg":"authenticated"}]"#
    );
    let subscribe = shapes::alpaca::subscribe(&["AAPL".to_owned()], &["MSFT".to_owned()]);
    socket.send(Message::text(subscribe)).await.unwrap();
    let report = ticks(&mut socket, shapes::Exchange::Alpaca, 500).await.report();
    assert_eq!(report.missing, 0, "{report:?}");
}

#[tokio::test]
async fn an_open_connection_of_binance_subscribes_and_outlives_others() {
    let exchange = start(binance(1_000)).await;
    let other = exchange.connect("/ws/ethusdt@trade").await.unwrap();
    let mut socket = exchange.connect("/ws").await.unwrap();
    let subscribe = shapes::binance::subscribe(1, &[shapes::binance::trades_of("BTCUSDT")]);
    socket.send(Message::text(subscribe)).await.unwrap();
    assert_eq!(text(&mut socket).await, r#"{"id":1,"result":null}"#);
    drop(other);
    let report = ticks(&mut socket, shapes::Exchange::Binance, 200).await.report();
    assert_eq!(report.missing, 0, "{report:?}");
}

#[tokio::test]
async fn what_is_not_simulated_is_refused_by_the_handshake() {
    let exchange = start(binance(1)).await;
    for (path, status) in [
        ("/ws/btcusdt@depth", 400),
        ("/api/v3/time", 404),
        ("/ws/dogeusdt@trade", 400),
    ] {
        match exchange.connect(path).await {
            Err(Error::Http(answer)) => assert_eq!(answer.status(), status, "{path}"),
            other => panic!("{path}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn clients_are_pinged_and_let_go_in_time() {
    let mut options = alpaca(1);
    options.ping_every = Duration::from_millis(50);
    options.connection_life = Duration::from_millis(600);
    let exchange = start(options).await;
    let mut socket = exchange.connect("/v2/iex").await.unwrap();
    let (mut pings, mut closed) = (0, None);
    let all = async {
        while let Some(Ok(message)) = socket.next().await {
            match message {
                Message::Ping(_) => pings += 1,
                Message::Close(frame) => closed = frame.map(|frame| frame.reason.to_string()),
                _ => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.unwrap();
    assert!(pings > 2, "{pings}");
    assert_eq!(closed.as_deref(), Some("connections do not last longer"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_too_slow_is_let_go_and_told() {
    let mut options = binance(500_000);
    options.backlog = 1;
    let exchange = start(options).await;
    let mut socket = exchange.connect("/ws/btcusdt@trade/ethusdt@trade").await.unwrap();
    let mut last = None;
    let all = async {
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Close(frame) = message {
                last = frame.map(|frame| frame.reason.to_string());
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all).await.unwrap();
    assert_eq!(last.as_deref(), Some("slow client"));
}
