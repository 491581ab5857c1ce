//! `outrigger list`.

use std::{
    process::ExitCode,
    time::{Duration, SystemTime},
};

use anyhow::Result;
use clap::Args;
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use super::{Surroundings, cluster::ClusterFlags, wait_for};
use crate::{
    output::{self, Format},
    sidecars::{self, Sidecar},
};

/// List the sidecars that run on this machine
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  outrigger list\n\n  # For scripts\n  outrigger list --output json")]
pub(super) struct ListFlags {
    /// How to print: table, json or yaml
    #[arg(short = 'o', long, value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    cluster: ClusterFlags,
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
        Self {
            app_id: &sidecar.app_id,
            http_port: sidecar.http_port,
            grpc_port: sidecar.grpc_port,
            app_port: sidecar.app_port,
            metrics_enabled: sidecar.metrics_enabled,
            command: shortened(sidecar.attribute("appCommand"), 20),
            age: age(now.duration_since(sidecar.created).unwrap_or_default()),
            created: written(sidecar.created, zone),
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

pub(super) fn main(flags: &ListFlags, around: &Surroundings) -> Result<ExitCode> {
    flags.cluster.check("sidecars", around)?;
    let sidecars = wait_for(async { Ok(sidecars::list().await) })?;
    let (now, zone) = (SystemTime::now(), TimeZone::system());
    let rows: Vec<Row<'_>> = sidecars
        .iter()
        .map(|sidecar| Row::of(sidecar, now, &zone))
        .collect();
    output::rows(
        flags.output,
        &rows,
        HEADINGS,
        Row::cells,
        "No Dapr instances found.",
    )?;
    Ok(ExitCode::SUCCESS)
}

fn shortened(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    let start: String = text.chars().take(length - 3).collect();
    format!("{start}...")
}

/// A moment as upstream writes it, in the machine's zone.
pub(super) fn created(moment: SystemTime) -> String {
    written(moment, &TimeZone::system())
}

fn written(moment: SystemTime, zone: &TimeZone) -> String {
    let moment = Timestamp::try_from(moment)
        .unwrap_or_default()
        .to_zoned(zone.clone());
    // The point before the seconds is upstream's.
    moment.strftime("%Y-%m-%d %H:%M.%S").to_string()
}

/// In the largest unit that is full (upstream `pkg/age`).
pub(super) fn age(age: Duration) -> String {
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
    use crate::sidecar_api::{Address, SidecarApi};

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
            components: None,
            resources_paths: Vec::new(),
            config_paths: Vec::new(),
            api: SidecarApi::new(Address::Port(3500), None),
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
        let table = output::table(HEADINGS, &[row.cells()]);
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
