//! The market data pipeline (P1): exchange → WebSocket manager → topic → worker → topic → gateway → clients.
//!
//! - [`exchanges`] are servers that speak the public message shapes of Binance and Alpaca with made-up prices, so that
//!   the pipeline can be shown, loaded and measured without the world outside.
//! - [`shapes`] reads those messages, whoever sent them, into one [`Tick`](shapes::Tick).
//! - [`pipeline`] makes connections and workers through the gateway and keeps them up; [`page`] is the page of live
//!   prices, [`watch`] a client that measures.
//! - [`ledger`] tells loss, repeats and latency from ticks.

mod decimal;
pub mod exchanges;
pub mod ledger;
pub mod page;
pub mod pipeline;
pub mod shapes;
pub mod watch;

pub use decimal::{Decimal, DecimalError};
