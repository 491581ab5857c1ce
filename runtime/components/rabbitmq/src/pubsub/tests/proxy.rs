//! A way to the broker that can be cut.

use std::sync::Arc;

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// Passes bytes on while it is open.
pub(super) struct Proxy {
    pub(super) port: u16,
    /// Whether it is open, and how often it was cut.
    gate: Arc<watch::Sender<(bool, usize)>>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(super) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let sender = Arc::new(watch::Sender::new((true, 0)));
        let gate = sender.clone();
        let task = tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let mut gate = gate.subscribe();
                tokio::spawn(async move {
                    let (open, cuts) = *gate.borrow();
                    if !open {
                        return;
                    }
                    let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = gate.wait_for(|(_, now)| *now != cuts) => {}
                    }
                });
            }
        });
        Self {
            port: own,
            gate: sender,
            task,
        }
    }

    /// Breaks all connections and lets none through.
    pub(super) fn cut(&self) {
        self.gate.send_modify(|(open, cuts)| {
            *open = false;
            *cuts += 1;
        });
    }

    pub(super) fn mend(&self) {
        self.gate.send_modify(|(open, _)| *open = true);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}
