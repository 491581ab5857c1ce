//! What flows where: for each exchange a connection, a topic of its messages, a worker, a topic of results.

mod keeper;
mod result;
mod setup;

pub use keeper::keep;
pub use result::{Averaged, ResultError, Results};
pub use setup::{Addresses, SetupError, set_up};

use crate::shapes::Exchange;

/// The tag by which the pipeline finds its own connections and workers again.
pub const TAG: &str = "pipeline";
/// The tag's value.
pub const TAG_VALUE: &str = "market";
/// The tag that says whose messages it is about.
pub const VENUE: &str = "exchange";

/// The code of the workers, the same for all exchanges.
pub const MOVING_AVERAGE: &str = include_str!("../../workers/moving_average.py");

/// All exchanges of the pipeline.
pub const EXCHANGES: [Exchange; 2] = [Exchange::Binance, Exchange::Alpaca];

/// The topic of an exchange's messages as they came (K1: market data, the trade tape).
pub fn messages_topic(exchange: Exchange) -> String {
    format!("act.exchange.{}.trade.tape", exchange.name())
}

/// The topic of what the workers make of them.
pub fn results_topic(exchange: Exchange) -> String {
    format!("act.exchange.{}.ticker.update", exchange.name())
}

/// The topics that a client of the pipeline reads.
pub fn results_topics() -> Vec<String> {
    EXCHANGES.into_iter().map(results_topic).collect()
}
