//! A WebSocket server that does as it is told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::{SinkExt as _, StreamExt as _};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// What all connections do.
#[derive(Debug, Clone)]
enum Order {
    Say(Message),
    Close(u16, &'static str),
    Sleep,
    Wake,
    Break,
}

#[derive(Debug, Default)]
struct Shared {
    refuses: AtomicBool,
    open: AtomicUsize,
    opened: AtomicUsize,
    heard: Mutex<Vec<Message>>,
}

/// The server. It echoes every message, but `hold …` at the next `release`, in reverse order, and `flood <n>` with as
/// many messages.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    orders: broadcast::Sender<Order>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let (orders, _) = broadcast::channel(1024);
        let (all, sender) = (shared.clone(), orders.clone());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                if all.refuses.load(Ordering::SeqCst) {
                    continue;
                }
                tokio::spawn(serve(stream, all.clone(), sender.subscribe()));
            }
        });
        Self {
            address,
            shared,
            orders,
            task,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/feed?x=1", self.address)
    }

    /// Drops connections before their handshake, or not.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.shared.refuses.store(refuses, Ordering::SeqCst);
    }

    pub(crate) fn say(&self, message: Message) {
        self.orders.send(Order::Say(message)).unwrap();
    }

    pub(crate) fn close(&self, code: u16, reason: &'static str) {
        self.orders.send(Order::Close(code, reason)).unwrap();
    }

    /// Reads nothing and says nothing, not even pongs, until it is woken.
    pub(crate) fn sleep(&self) {
        self.orders.send(Order::Sleep).unwrap();
    }

    pub(crate) fn wake(&self) {
        self.orders.send(Order::Wake).unwrap();
    }

    /// Ends all connections without a goodbye.
    pub(crate) fn cut(&self) {
        self.orders.send(Order::Break).unwrap();
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Connections that were ever opened.
    pub(crate) fn opened(&self) -> usize {
        self.shared.opened.load(Ordering::SeqCst)
    }

    /// Everything that was received, goodbyes too.
    pub(crate) fn heard(&self) -> Vec<Message> {
        self.shared.heard.lock().clone()
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>, mut orders: broadcast::Receiver<Order>) {
    let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else {
        return;
    };
    shared.open.fetch_add(1, Ordering::SeqCst);
    shared.opened.fetch_add(1, Ordering::SeqCst);
    let mut held = Vec::new();
    loop {
        tokio::select! {
            message = socket.next() => {
                let Some(Ok(message)) = message else { break };
                if !matches!(message, Message::Ping(_) | Message::Pong(_)) {
                    shared.heard.lock().push(message.clone());
                }
                let text = message.to_text().unwrap_or_default().to_owned();
                if text.ends_with("hold") {
                    held.push(message);
                } else if text == "release" {
                    for message in held.drain(..).rev() {
                        socket.send(message).await.unwrap();
                    }
                } else if let Some(count) = text.strip_prefix("flood ") {
                    for number in 1..=count.parse().unwrap() {
                        let number: u64 = number;
                        if socket.feed(Message::text(number.to_string())).await.is_err() {
                            break;
                        }
                    }
                    let _ = socket.flush().await;
                } else if (message.is_text() || message.is_binary()) && !text.ends_with("silence") {
                    let _ = socket.send(message).await;
                }
            }
            order = orders.recv() => match order.unwrap() {
                Order::Say(message) => {
                    let _ = socket.send(message).await;
                }
                Order::Close(code, reason) => {
                    let frame = CloseFrame { code: code.into(), reason: reason.into() };
                    let _ = socket.close(Some(frame)).await;
                }
                Order::Sleep => while !matches!(orders.recv().await.unwrap(), Order::Wake) {},
                Order::Wake => {}
                Order::Break => break,
            },
        }
    }
    shared.open.fetch_sub(1, Ordering::SeqCst);
}
