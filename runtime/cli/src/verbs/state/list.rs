//! `state list`: the keys of a store.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::{
    super::{Surroundings, wait_for},
    store::StoreFlags,
};
use crate::output::{self, Format};

/// List keys
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  outrigger state list --app-id orders\n  outrigger state list -a orders --prefix order- --limit 20 --output json\n\n  # Every key, as the store has it\n  outrigger state list --all --store statestore --resources-path ./resources"
)]
pub(super) struct ListFlags {
    #[command(flatten)]
    store: StoreFlags,
    /// Only keys that begin so
    #[arg(short = 'p', long, default_value = "")]
    prefix: String,
    /// At most this many
    #[arg(long)]
    limit: Option<usize>,
    /// How to print: table, json or yaml
    #[arg(short = 'o', long, value_enum, default_value = "table")]
    output: Format,
}

pub(super) fn main(flags: &ListFlags, around: &Surroundings) -> Result<ExitCode> {
    wait_for(async {
        let store = flags.store.open(around).await?;
        store.must_list()?;
        let limit = flags.limit.unwrap_or(usize::MAX);
        let (mut token, mut left, mut all) = (None, limit, Vec::new());
        loop {
            let page = store.keys(&flags.prefix, token).await?;
            let keys: Vec<String> = page
                .keys
                .iter()
                .take(left)
                .map(|key| store.apps_key(key).to_owned())
                .collect();
            left -= keys.len();
            if flags.output == Format::Table {
                // Printed page by page: a store may hold more keys than memory should.
                let lines: String = keys.iter().map(|key| format!("{key}\n")).collect();
                output::print(lines.as_bytes())?;
            } else {
                all.extend(keys);
            }
            token = page.token;
            if token.is_none() || left == 0 {
                break;
            }
        }
        match flags.output {
            Format::Table => {}
            Format::Json => output::print(output::json(&all)?.as_bytes())?,
            Format::Yaml => output::print(output::yaml(&serde_json::Value::from(all)).as_bytes())?,
        }
        let _ = store.instance.close().await;
        Ok(ExitCode::SUCCESS)
    })
}
