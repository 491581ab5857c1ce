//! Answers of the verbs as tables, JSON or YAML, and progress of long work.

use std::{
    fmt::Write as _,
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;

use crate::console::Console;

/// How a verb that lists something prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// Columns for people. Some verbs of the `dapr` program call it `list`.
    #[default]
    #[value(alias = "list")]
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// The output formats of verbs whose answer is one object or a plain text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum TextFormat {
    /// Text for people.
    #[default]
    #[value(alias = "table")]
    Text,
    /// JSON.
    Json,
}

/// Prints rows in a format. `cells` gives a row's columns; `empty` is said instead of a table without rows.
///
/// # Errors
/// When standard output fails for another reason than a closed pipe.
pub(crate) fn rows<T: Serialize, const N: usize>(
    format: Format,
    rows: &[T],
    headings: [&str; N],
    cells: impl Fn(&T) -> [String; N],
    empty: &str,
) -> Result<()> {
    let text = match format {
        Format::Table if rows.is_empty() => format!("{empty}\n"),
        Format::Table => table(headings, &rows.iter().map(cells).collect::<Vec<_>>()),
        Format::Json => json(&rows)?,
        Format::Yaml => yaml(&serde_json::to_value(rows).context("cannot write YAML")?),
    };
    print(text.as_bytes())
}

/// Pretty JSON with its line end.
pub(crate) fn json(value: &impl Serialize) -> Result<String> {
    let mut text = serde_json::to_string_pretty(value).context("cannot write JSON")?;
    text.push('\n');
    Ok(text)
}

/// Writes to standard output; whoever closed it (`| head`) has seen enough.
pub(crate) fn print(bytes: &[u8]) -> Result<()> {
    let mut output = std::io::stdout().lock();
    match output.write_all(bytes).and_then(|()| output.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("cannot print"),
        _ => Ok(()),
    }
}

/// Columns as wide as their longest cell, two spaces apart.
pub(crate) fn table<const N: usize>(headings: [&str; N], cells: &[[String; N]]) -> String {
    let headings = headings.map(str::to_owned);
    let all = || std::iter::once(&headings).chain(cells);
    let widths: Vec<usize> = (0..N)
        .map(|column| all().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in all() {
        let line: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Block YAML. JSON scalars are YAML scalars, so only lists and objects need a form of their own.
pub(crate) fn yaml(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Array(items) if items.is_empty() => text.push_str("[]\n"),
        Value::Object(fields) if fields.is_empty() => text.push_str("{}\n"),
        _ => block(value, 0, &mut text),
    }
    text
}

fn block(value: &Value, indent: usize, text: &mut String) {
    let nested = |value: &Value| match value {
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => false,
    };
    match value {
        Value::Array(items) => {
            for item in items {
                if nested(item) {
                    // The first line of the item stands behind the dash.
                    let mut inner = String::new();
                    block(item, indent + 2, &mut inner);
                    let _ = write!(text, "{:indent$}- {}", "", inner.trim_start());
                } else {
                    let _ = writeln!(text, "{:indent$}- {item}", "");
                }
            }
        }
        Value::Object(fields) => {
            for (key, item) in fields {
                let key = plain_key(key);
                if nested(item) {
                    let _ = writeln!(text, "{:indent$}{key}:", "");
                    block(item, indent + 2, text);
                } else {
                    let _ = writeln!(text, "{:indent$}{key}: {item}", "");
                }
            }
        }
        scalar => {
            let _ = writeln!(text, "{:indent$}{scalar}", "");
        }
    }
}

fn plain_key(key: &str) -> String {
    let plain = key.chars().next().is_some_and(|c| c.is_ascii_alphabetic())
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        && !matches!(
            key.to_ascii_lowercase().as_str(),
            "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null"
        );
    if plain {
        key.to_owned()
    } else {
        Value::from(key).to_string()
    }
}

/// How often a progress line changes.
const REDRAW: Duration = Duration::from_millis(100);

/// A line on standard error that says how far long work is. Silent unless that is a terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    label: String,
    total: Option<u64>,
    shown: bool,
    visible: bool,
    next: Instant,
}

impl Progress {
    /// Work of `total` steps, if known.
    pub(crate) fn new(console: Console, label: &str, total: Option<u64>) -> Self {
        Self {
            label: label.to_owned(),
            total,
            shown: false,
            visible: !console.json() && std::io::stderr().is_terminal(),
            next: Instant::now() + REDRAW,
        }
    }

    /// How much is done.
    pub(crate) fn at(&mut self, done: u64) {
        if !self.visible || Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + REDRAW;
        self.shown = true;
        let far = match self.total {
            Some(total) if total > 0 => format!("{:3} %", done.min(total) * 100 / total),
            _ => done.to_string(),
        };
        // Back to the line's start, and nothing left of what was longer before.
        let _ = write!(std::io::stderr(), "\r{} {far}\x1b[K", self.label);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_reads_back_as_the_same_value() {
        let value = serde_json::json!([
            {"list": [1, {"x": null, "deep": [[], {}]}], "empty": {}, "name": "a: b", "on": true},
            "text", [["nested"]]
        ]);
        let text = yaml(&value);
        let node = outrigger_resources::yaml::parse(&text, outrigger_resources::yaml::Mode::YamlV3)
            .unwrap()
            .unwrap();
        assert!(text.contains("  name: \"a: b\"\n  \"on\": true\n"), "{text}");
        assert!(
            matches!(&node.content, outrigger_resources::yaml::Content::Sequence(items) if items.len() == 3)
        );
        assert_eq!(yaml(&serde_json::json!([])), "[]\n");
    }

    #[test]
    fn columns_line_up() {
        let cells = vec![
            ["orders".to_owned(), "1".to_owned()],
            ["é".to_owned(), "22".to_owned()],
        ];
        assert_eq!(table(["ID", "N"], &cells), "ID      N\norders  1\né       22\n");
    }
}
