//! `outrigger list`.

use std::{
    process::ExitCode,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use super::{Surroundings, wait_for};
use crate::sidecars::{self, Sidecar};

/// List the sidecars that run on this machine
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  outrigger list\n  outrigger list --output json")]
pub(super) struct ListFlags {
    /// How to print: table, json or yaml
    #[arg(short = 'o', long, value_enum, default_value = "table")]
    output: Output,
    /// List in Kubernetes
    #[arg(short = 'k', long, hide = true)]
    kubernetes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Table,
    Json,
    Yaml,
}

/// One line; names and order are upstream's (`standalone.ListOutput`).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    app_id: &'a str,
    http_port: u16,
    grpc_port: u16,
    app_port: u16,
    metrics_enabled: bool,
    command: String,
    age: String,
    created: String,
    daprd_pid: u32,
    cli_pid: u32,
    app_pid: u32,
    max_request_body_size: i64,
    http_read_buffer_size: i64,
    run_template_path: &'a str,
    app_log_path: &'a str,
    daprd_log_path: &'a str,
    run_template_name: &'a str,
}

impl<'a> Row<'a> {
    fn of(sidecar: &'a Sidecar, now: SystemTime, zone: &TimeZone) -> Self {
        let created = Timestamp::try_from(sidecar.created)
            .unwrap_or_default()
            .to_zoned(zone.clone());
        Self {
            app_id: &sidecar.app_id,
            http_port: sidecar.http_port,
            grpc_port: sidecar.grpc_port,
            app_port: sidecar.app_port,
            metrics_enabled: sidecar.metrics_enabled,
            command: shortened(sidecar.attribute("appCommand"), 20),
            age: age(now.duration_since(sidecar.created).unwrap_or_default()),
            // The point before the seconds is upstream's.
            created: created.strftime("%Y-%m-%d %H:%M.%S").to_string(),
            daprd_pid: sidecar.pid,
            cli_pid: sidecar.process("cliPID"),
            app_pid: sidecar.process("appPID"),
            max_request_body_size: sidecar.max_body_size,
            http_read_buffer_size: sidecar.read_buffer_size,
            run_template_path: sidecar.attribute("runTemplatePath"),
            app_log_path: sidecar.attribute("appLogPath"),
            daprd_log_path: sidecar.attribute("daprdLogPath"),
            run_template_name: sidecar.attribute("runTemplateName"),
        }
    }

    fn cells(&self) -> [String; 13] {
        [
            self.app_id.to_owned(),
            self.http_port.to_string(),
            self.grpc_port.to_string(),
            self.app_port.to_string(),
            self.command.clone(),
            self.age.clone(),
            self.created.clone(),
            self.daprd_pid.to_string(),
            self.cli_pid.to_string(),
            self.app_pid.to_string(),
            self.run_template_path.to_owned(),
            self.app_log_path.to_owned(),
            self.daprd_log_path.to_owned(),
        ]
    }
}

const HEADINGS: [&str; 13] = [
    "APP ID",
    "HTTP PORT",
    "GRPC PORT",
    "APP PORT",
    "COMMAND",
    "AGE",
    "CREATED",
    "DAPRD PID",
    "CLI PID",
    "APP PID",
    "RUN_TEMPLATE_PATH",
    "APP_LOG_PATH",
    "DAPRD_LOG_PATH",
];

pub(super) fn main(flags: &ListFlags, _around: &Surroundings) -> Result<ExitCode> {
    if flags.kubernetes {
        bail!(
            "--kubernetes is not served by this version; without it the sidecars of this machine are listed"
        );
    }
    let sidecars = wait_for(async { Ok(sidecars::list().await) })?;
    let (now, zone) = (SystemTime::now(), TimeZone::system());
    let rows: Vec<Row<'_>> = sidecars
        .iter()
        .map(|sidecar| Row::of(sidecar, now, &zone))
        .collect();
    match flags.output {
        Output::Json => println!(
            "{}",
            serde_json::to_string_pretty(&rows).context("cannot write JSON")?
        ),
        Output::Yaml => print!("{}", yaml(&rows)?),
        Output::Table if rows.is_empty() => println!("No Dapr instances found."),
        Output::Table => print!("{}", table(&rows)),
    }
    Ok(ExitCode::SUCCESS)
}

fn yaml(rows: &[Row<'_>]) -> Result<String> {
    let serde_json::Value::Array(rows) = serde_json::to_value(rows).context("cannot write YAML")? else {
        return Ok(String::new());
    };
    if rows.is_empty() {
        return Ok("[]\n".to_owned());
    }
    let mut text = String::new();
    for row in rows.iter().filter_map(serde_json::Value::as_object) {
        for (index, (key, value)) in row.iter().enumerate() {
            // JSON scalars are YAML scalars.
            text.push_str(&format!(
                "{} {key}: {value}\n",
                if index == 0 { "-" } else { " " }
            ));
        }
    }
    Ok(text)
}

/// Columns as wide as their longest cell, two spaces apart.
fn table(rows: &[Row<'_>]) -> String {
    let cells: Vec<[String; 13]> = rows.iter().map(Row::cells).collect();
    let headings = HEADINGS.map(str::to_owned);
    let all = || std::iter::once(&headings).chain(&cells);
    let widths: Vec<usize> = (0..HEADINGS.len())
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

fn shortened(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    let start: String = text.chars().take(length - 3).collect();
    format!("{start}...")
}

/// In the largest unit that is full (upstream `pkg/age`).
fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..=60 => format!("{seconds}s"),
        61..=3_600 => format!("{}m", seconds / 60),
        3_601..=86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sidecar() -> Sidecar {
        Sidecar {
            pid: 7,
            app_id: "orders".to_owned(),
            http_port: 3500,
            grpc_port: 50001,
            app_port: 3000,
            metrics_enabled: true,
            max_body_size: 4 << 20,
            read_buffer_size: 4096,
            created: SystemTime::UNIX_EPOCH,
            attributes: [("cliPID", "5"), ("appCommand", "node a-very-long-name.js")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        }
    }

    #[test]
    fn a_row_has_the_columns_of_dapr_list() {
        let sidecar = sidecar();
        let row = Row::of(
            &sidecar,
            SystemTime::UNIX_EPOCH + Duration::from_secs(200),
            &TimeZone::UTC,
        );
        let table = table(std::slice::from_ref(&row));
        let mut lines = table.lines();
        assert!(
            lines
                .next()
                .unwrap()
                .starts_with("APP ID  HTTP PORT  GRPC PORT  APP PORT  COMMAND")
        );
        let line = lines.next().unwrap();
        assert!(
            line.contains("node a-very-long-...")
                && line.contains("3m")
                && line.contains("1970-01-01 00:00.00"),
            "{line}"
        );
        let json = serde_json::to_value(&row).unwrap();
        assert_eq!(
            (&json["appId"], &json["cliPid"], &json["appPid"]),
            (&"orders".into(), &5.into(), &0.into())
        );
        assert!(yaml(&[row]).unwrap().starts_with("- "));
    }

    #[test]
    fn ages_use_the_largest_full_unit() {
        let of = |seconds| age(Duration::from_secs(seconds));
        assert_eq!(
            [of(60), of(61), of(7_200), of(200_000)],
            ["60s", "1m", "2h", "2d"]
        );
    }
}
