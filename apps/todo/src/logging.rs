//! Log lines on standard error.

use std::fmt::Write as _;
use std::io::Write as _;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

struct Lines {
    least: Level,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        // What libraries below have to say is for their own authors.
        *metadata.level() <= self.least && metadata.target().starts_with("outrigger")
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        let metadata = event.metadata();
        // Nobody is left to tell if standard error is closed.
        let _ = writeln!(
            std::io::stderr(),
            "{:.3} {:5} {}{}",
            jiff::Timestamp::now(),
            metadata.level(),
            line.message,
            line.fields
        );
    }
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

/// Logs what is at least as important as `level` to standard error, for the whole process.
pub fn start(level: &str) {
    let least = level.parse().unwrap_or(Level::INFO);
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Lines { least }));
}
