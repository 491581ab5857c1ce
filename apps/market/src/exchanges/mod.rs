//! Simulated exchanges: WebSocket servers that speak the public message shapes with made-up prices.
//!
//! - [`market`] is the market itself, a seeded random walk; pure.
//! - [`pace`] says how many trades are due; pure.
//! - [`binance`] and [`alpaca`] are the talk with one client; pure: texts and moments in, texts out.
//! - [`server`] holds the sockets.

pub mod alpaca;
pub mod binance;
pub mod market;
pub mod pace;
pub mod server;

use std::time::Duration;

use market::Moment;
pub use server::{Exchange, Options};

/// The talk with one client. It knows no socket and no clock.
pub trait Talk: Send {
    /// What is sent before the client says anything.
    fn greet(&mut self) -> Vec<String>;

    /// Answers a text of the client, `since` after the connection was made.
    fn hear(&mut self, text: &str, since: Duration) -> Answer;

    /// Writes down what the client wants to know of some moments of the market.
    fn tell(&mut self, moments: &[Moment], texts: &mut Vec<String>);

    /// What is due so long after the connection was made, though nobody said anything.
    fn wait(&mut self, since: Duration) -> Answer;

    /// What is said to a client that does not read fast enough, before it is let go.
    fn too_slow(&self) -> Option<String>;
}

/// What follows from what a client said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// To be sent.
    pub texts: Vec<String>,
    /// Why the connection ends after that.
    pub close: Option<&'static str>,
}

impl Answer {
    fn text(text: String) -> Self {
        Self {
            texts: vec![text],
            close: None,
        }
    }
}
