//! When things fire: cron expressions, repeats and due times as pure functions.
