//! The sockets of a simulated exchange.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use http::StatusCode;
use outrigger_kit::CancellationToken;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::market::{Lot, Market, Moment};
use super::pace::Pace;
use super::{Answer, Talk, alpaca, binance};
use crate::shapes;

/// How often trades are made up and told; one write per client each time.
const GRAIN: Duration = Duration::from_millis(2);
const MAX_CLIENTS: usize = 1000;
/// Requests are short.
const MAX_REQUEST: usize = 64 * 1024;
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
const WRITE_TIME: Duration = Duration::from_secs(10);

/// What is simulated, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whose messages.
    pub shape: shapes::Exchange,
    /// What is traded.
    pub symbols: Vec<String>,
    /// Trades per second, of all symbols together.
    pub rate: u64,
    /// Decides the prices.
    pub seed: u64,
    /// Who may ask, where the exchange wants to know (Alpaca).
    pub account: alpaca::Account,
    /// How often clients are asked whether they are there; three times as long without an answer is the end.
    pub ping_every: Duration,
    /// How long a connection lasts at most: Binance's last for 24 hours.
    pub connection_life: Duration,
    /// Turns of the market, 500 a second, that a client may lag behind before it is let go; at least 1.
    pub backlog: usize,
}

impl Options {
    /// An exchange as its documentation describes it.
    #[must_use]
    pub fn new(shape: shapes::Exchange, symbols: Vec<String>, rate: u64) -> Self {
        Self {
            shape,
            symbols,
            rate,
            seed: 1,
            account: alpaca::Account {
                key: "key".to_owned(),
                secret: "secret".to_owned(),
                symbol_limit: 30,
            },
            ping_every: Duration::from_secs(20),
            connection_life: Duration::from_secs(24 * 60 * 60),
            backlog: 1024,
        }
    }
}

/// An exchange that listens.
#[derive(Debug)]
pub struct Exchange {
    listener: TcpListener,
    options: Options,
}

/// What all clients share.
struct Floor {
    options: Options,
    /// In lower case.
    symbols: Arc<BTreeSet<String>>,
    account: Arc<alpaca::Account>,
    feed: broadcast::Sender<Arc<[Moment]>>,
    closing: CancellationToken,
}

impl Exchange {
    /// Listens on an address.
    ///
    /// # Errors
    /// Those of binding.
    pub async fn bind(address: SocketAddr, options: Options) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { listener, options })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Trades until told to close, then says goodbye to its clients.
    pub async fn run(self, closing: CancellationToken) {
        let (feed, _) = broadcast::channel(self.options.backlog.max(1));
        let symbols = self
            .options
            .symbols
            .iter()
            .map(|symbol| symbol.to_ascii_lowercase());
        let floor = Arc::new(Floor {
            symbols: Arc::new(symbols.collect()),
            account: Arc::new(self.options.account.clone()),
            feed,
            closing: closing.clone(),
            options: self.options,
        });
        let places = Arc::new(Semaphore::new(MAX_CLIENTS));
        let mut clients = tokio::task::JoinSet::new();
        clients.spawn(trade(floor.clone()));
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                Some(_) = clients.join_next(), if clients.len() > 1 => continue,
                () = closing.cancelled() => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a client could not be accepted");
                    // Without file descriptors the next attempt fails as fast.
                    tokio::time::sleep(GRAIN).await;
                    continue;
                }
            };
            let Ok(place) = places.clone().try_acquire_owned() else {
                tracing::warn!(%peer, "there are {MAX_CLIENTS} clients already");
                continue;
            };
            let floor = floor.clone();
            clients.spawn(async move {
                match serve(&floor, stream).await {
                    Ok(why) => tracing::info!(%peer, why, "a client left"),
                    Err(error) => tracing::info!(%peer, %error, "a client is gone"),
                }
                drop(place);
            });
        }
        while clients.join_next().await.is_some() {}
    }
}

/// Makes up the trades.
async fn trade(floor: Arc<Floor>) {
    let options = &floor.options;
    let lot = match options.shape {
        shapes::Exchange::Binance => Lot::Fraction,
        shapes::Exchange::Alpaca => Lot::Whole,
    };
    let mut market = Market::new(options.seed, &options.symbols, lot);
    let mut pace = Pace::new(options.rate, now_ns());
    let mut turn = tokio::time::interval(GRAIN);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = turn.tick() => {}
            () = floor.closing.cancelled() => return,
        }
        let now = now_ns();
        let moments: Arc<[Moment]> = (0..pace.due(now)).map_while(|_| market.next(now)).collect();
        if !moments.is_empty() {
            // Nobody listens: the market goes on.
            let _ = floor.feed.send(moments);
        }
    }
}

fn now_ns() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// Decides by a request who talks to it.
fn talk(floor: &Floor, request: &Request) -> Result<Box<dyn Talk>, (StatusCode, String)> {
    let uri = request.uri();
    match floor.options.shape {
        shapes::Exchange::Binance => {
            let query = uri.query().unwrap_or_default();
            match binance::Client::connect(uri.path(), query, floor.symbols.clone()) {
                Ok(client) => Ok(Box::new(client)),
                Err(error @ binance::PathError::Unknown) => Err((StatusCode::NOT_FOUND, error.to_string())),
                Err(error) => Err((StatusCode::BAD_REQUEST, error.to_string())),
            }
        }
        shapes::Exchange::Alpaca => {
            if !matches!(uri.path(), "/v2/iex" | "/v2/sip" | "/v2/test") {
                return Err((StatusCode::NOT_FOUND, "no feed at this path".to_owned()));
            }
            let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
            let credentials = header("APCA-API-KEY-ID").zip(header("APCA-API-SECRET-KEY"));
            Ok(Box::new(alpaca::Client::connect(
                floor.account.clone(),
                credentials,
            )))
        }
    }
}

/// Serves one client; says why it ended.
async fn serve(floor: &Floor, stream: TcpStream) -> Result<&'static str, Error> {
    stream.set_nodelay(true)?;
    let mut client = None;
    // The answer of a refusal is of the library's choosing.
    #[allow(clippy::result_large_err, reason = "the library's signature")]
    let decide = |request: &Request, response: Response| match talk(floor, request) {
        Ok(talk) => {
            client = Some(talk);
            Ok(response)
        }
        Err((status, text)) => {
            let mut refusal = ErrorResponse::new(Some(text));
            *refusal.status_mut() = status;
            Err(refusal)
        }
    };
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_REQUEST))
        .max_frame_size(Some(MAX_REQUEST))
        .read_buffer_size(8 * 1024);
    let handshake = tokio_tungstenite::accept_hdr_async_with_config(stream, decide, Some(config));
    let Ok(socket) = timeout(HANDSHAKE_TIME, handshake).await else {
        return Ok("no handshake in time");
    };
    let Some(talk) = client else {
        return Ok("no talk");
    };
    Conversation {
        socket: socket?,
        talk,
        since: Instant::now(),
    }
    .run(floor)
    .await
}

struct Conversation {
    socket: WebSocketStream<TcpStream>,
    talk: Box<dyn Talk>,
    since: Instant,
}

impl Conversation {
    async fn run(mut self, floor: &Floor) -> Result<&'static str, Error> {
        let mut feed = floor.feed.subscribe();
        let texts = self.talk.greet();
        self.send(texts).await?;
        let ping_every = floor.options.ping_every;
        let mut pings = tokio::time::interval_at(self.since + ping_every, ping_every);
        let mut looks = tokio::time::interval(Duration::from_millis(500));
        let mut heard = Instant::now();
        let mut texts = Vec::new();
        loop {
            tokio::select! {
                message = self.socket.next() => {
                    heard = Instant::now();
                    let answer = match message {
                        None => return Ok("the connection was closed"),
                        Some(Err(Error::ConnectionClosed)) => return Ok("it said goodbye"),
                        Some(message) => match message? {
                            Message::Text(text) => self.talk.hear(&text, self.since.elapsed()),
                            Message::Binary(bytes) => {
                                let text = String::from_utf8_lossy(&bytes).into_owned();
                                self.talk.hear(&text, self.since.elapsed())
                            }
                            // The library answers these at the next write.
                            Message::Ping(_) | Message::Close(_) => {
                                self.flush().await?;
                                continue;
                            }
                            Message::Pong(_) | Message::Frame(_) => continue,
                        },
                    };
                    if let Some(why) = self.answer(answer).await? {
                        return Ok(why);
                    }
                }
                moments = feed.recv() => match moments {
                    Ok(moments) => {
                        self.talk.tell(&moments, &mut texts);
                        if !texts.is_empty() {
                            self.send(texts.drain(..)).await?;
                        }
                    }
                    // A market does not wait, and no tick is left out in silence.
                    Err(RecvError::Lagged(_)) => {
                        let last = self.talk.too_slow();
                        self.send(last).await?;
                        return self.close("slow client").await;
                    }
                    Err(RecvError::Closed) => return self.close("the exchange closes").await,
                },
                _ = pings.tick() => {
                    if heard.elapsed() > ping_every * 3 {
                        return Ok("it does not answer pings");
                    }
                    self.socket.feed(Message::Ping(Default::default())).await?;
                    self.flush().await?;
                }
                _ = looks.tick() => {
                    let since = self.since.elapsed();
                    if since >= floor.options.connection_life {
                        return self.close("connections do not last longer").await;
                    }
                    let answer = self.talk.wait(since);
                    if let Some(why) = self.answer(answer).await? {
                        return Ok(why);
                    }
                }
                () = floor.closing.cancelled() => return self.close("the exchange closes").await,
            }
        }
    }

    async fn answer(&mut self, answer: Answer) -> Result<Option<&'static str>, Error> {
        self.send(answer.texts).await?;
        match answer.close {
            None => Ok(None),
            Some(why) => self.close(why).await.map(Some),
        }
    }

    async fn send(&mut self, texts: impl IntoIterator<Item = String>) -> Result<(), Error> {
        for text in texts {
            let written = timeout(WRITE_TIME, self.socket.feed(Message::text(text))).await;
            written.map_err(|_| stuck())??;
        }
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), Error> {
        timeout(WRITE_TIME, self.socket.flush())
            .await
            .map_err(|_| stuck())?
    }

    async fn close(&mut self, why: &'static str) -> Result<&'static str, Error> {
        let frame = CloseFrame {
            code: CloseCode::Policy,
            reason: why.into(),
        };
        let closed = timeout(WRITE_TIME, self.socket.close(Some(frame))).await;
        closed.map_err(|_| stuck())??;
        // Until the client has said goodbye too, or a moment has passed.
        let farewell = async { while let Some(Ok(_)) = self.socket.next().await {} };
        let _ = timeout(Duration::from_secs(1), farewell).await;
        Ok(why)
    }
}

fn stuck() -> Error {
    Error::Io(std::io::Error::new(
        std::io::ErrorKind::TimedOut,
        "the client does not read",
    ))
}
