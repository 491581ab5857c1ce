//! `outrigger state`: single items through a sidecar, whole stores through their component files.
//!
//! `get`, `set` and `delete` call the API of a running sidecar and so see what its app sees. `list`, `export` and
//! `import` open the store themselves, by the component's file: no sidecar need run.

mod calls;
mod export;
mod import;
mod list;
mod record;
mod store;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::Surroundings;

/// Read, change, list, export and import state
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  outrigger state set --app-id orders order-1 --data '{\"paid\": true}'\n  outrigger state get --app-id orders order-1\n  outrigger state list --app-id orders --prefix order-\n  outrigger state export --app-id orders --output orders.ndjson\n  outrigger state import --app-id orders --file orders.ndjson"
)]
pub(super) struct StateFlags {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Get(calls::GetFlags),
    Set(calls::SetFlags),
    Delete(calls::DeleteFlags),
    List(list::ListFlags),
    Export(export::ExportFlags),
    Import(import::ImportFlags),
}

pub(super) fn main(flags: &StateFlags, around: &Surroundings) -> Result<ExitCode> {
    match &flags.verb {
        Verb::Get(flags) => calls::get(flags, around),
        Verb::Set(flags) => calls::set(flags, around),
        Verb::Delete(flags) => calls::delete(flags, around),
        Verb::List(flags) => list::main(flags, around),
        Verb::Export(flags) => export::main(flags, around),
        Verb::Import(flags) => import::main(flags, around),
    }
}
