//! CloudEvents envelopes and the verdicts of delivery: ack, retry, drop, dead-letter.
pub mod go_json;
