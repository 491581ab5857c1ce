//! `outrigger component`: our component types for other programs.

use std::{
    io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use outrigger_component::Host;
use outrigger_components::{
    self as registry, Category,
    pluggable::{DEFAULT_FOLDER, FOLDER_VARIABLE, Offer, Server},
};
use outrigger_telemetry::logs;
use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
};

use super::{Surroundings, wait_for};
use crate::{
    console::Status,
    usage::{LOG_LEVELS, refuse},
};

/// The app that an instance serves where its settings name no consumer group.
const HOST_APP: &str = "outrigger-component";

/// Serve component types to other programs
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  outrigger component serve state.sqlite")]
pub(super) struct ComponentFlags {
    #[command(subcommand)]
    verb: ComponentVerb,
}

#[derive(Debug, Subcommand)]
enum ComponentVerb {
    Serve(ServeFlags),
}

/// Offer a component type as a pluggable component
///
/// The type is served over a Unix socket to any Dapr sidecar, of this program or of Dapr, by Dapr's protocol for
/// pluggable components. Sidecars find it in their folder of sockets and know it by the socket's name: a socket
/// `orders.sock` that serves a state store is the type `state.orders`. Settings come from the sidecars' component
/// files. State stores, brokers, bindings and secret stores can be served.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  # The type state.state-sqlite of sidecars that start after it\n  outrigger component serve state.sqlite\n\n  # Under a name, in the folder that sidecars look at\n  outrigger component serve pubsub.redis --name orders --socket-dir /run/dapr-components\n\n  # At a path\n  outrigger component serve secretstores.local.file --socket ./secrets.sock"
)]
struct ServeFlags {
    /// The type, for example state.sqlite
    #[arg(value_name = "TYPE")]
    type_name: String,
    /// The path of the socket
    #[arg(long, conflicts_with_all = ["socket_dir", "name"])]
    socket: Option<PathBuf>,
    /// The folder of the socket; default: DAPR_COMPONENTS_SOCKETS_FOLDER, or /tmp/dapr-components-sockets
    #[arg(long)]
    socket_dir: Option<PathBuf>,
    /// The name under which sidecars find the type; default: the type with dashes for dots
    #[arg(long)]
    name: Option<String>,
    /// The version of the type, as component files write it
    #[arg(long, value_name = "VERSION", default_value = "", hide_default_value = true)]
    type_version: String,
    /// How much to log
    #[arg(long, default_value = "info", value_parser = LOG_LEVELS, ignore_case = true)]
    log_level: String,
}

pub(super) fn main(flags: ComponentFlags, around: &Surroundings) -> Result<ExitCode> {
    let ComponentVerb::Serve(flags) = flags.verb;
    let offer = offer(&flags.type_name, &flags.type_version)?;
    let socket = socket(&flags, around)?;
    start_logs(&flags.log_level, around)?;
    let mut host = Host::new(HOST_APP, &around.working_dir);
    host.environment = around.environment.clone();
    let server = Server::new(offer, flags.type_version, host);
    wait_for(async {
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
        let listener = bind(&socket).with_context(|| format!("cannot listen at {}", socket.display()))?;
        around.console.say(
            Status::Success,
            &format!("{} is served at {}", flags.type_name, socket.display()),
        );
        let stop = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        let served = server.serve(listener, stop).await;
        let _ = std::fs::remove_file(&socket);
        served?;
        Ok(ExitCode::SUCCESS)
    })
}

/// What the type is and how it is built.
fn offer(type_name: &str, version: &str) -> Result<Offer> {
    Ok(match Category::of(type_name) {
        Some(Category::State) => Offer::State(registry::find(&registry::state(), type_name, version)?),
        Some(Category::PubSub) => Offer::PubSub(registry::find(&registry::pubsub(), type_name, version)?),
        Some(Category::SecretStores) => {
            Offer::Secrets(registry::find(&registry::secret_stores(), type_name, version)?)
        }
        Some(Category::Bindings) => {
            let (input, output) = registry::binding_sides(type_name);
            Offer::Bindings {
                registration: registry::find(&registry::bindings(), type_name, version)?,
                input,
                output,
            }
        }
        Some(category) => bail!(
            "{type_name} cannot be served: Dapr's protocol for pluggable components has no {}; it has state stores, message buses, bindings and secret stores",
            category.noun()
        ),
        None => {
            refuse!("incorrect type {type_name}: write it as in a component file, for example state.sqlite")
        }
    })
}

/// Where the socket is to be. Its folder is made.
fn socket(flags: &ServeFlags, around: &Surroundings) -> Result<PathBuf> {
    let socket = match &flags.socket {
        Some(socket) => around.working_dir.join(socket),
        None => {
            let folder = flags.socket_dir.clone().unwrap_or_else(|| {
                around
                    .environment
                    .non_empty(FOLDER_VARIABLE)
                    .unwrap_or(DEFAULT_FOLDER)
                    .into()
            });
            let name = flags
                .name
                .clone()
                .unwrap_or_else(|| flags.type_name.replace('.', "-"));
            if name.is_empty() || name.contains('/') {
                refuse!("--name {name:?} cannot name a socket");
            }
            around.working_dir.join(folder).join(format!("{name}.sock"))
        }
    };
    if let Some(folder) = socket.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    Ok(socket)
}

/// Binds the socket, in place of one that a dead process left behind.
fn bind(socket: &Path) -> io::Result<UnixListener> {
    if UnixStream::connect(socket).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
        std::fs::remove_file(socket)?;
    }
    UnixListener::bind(socket)
}

fn start_logs(level: &str, around: &Surroundings) -> Result<()> {
    let hostname = gethostname::gethostname().to_string_lossy().into_owned();
    let mut options = logs::LogOptions::new(hostname, outrigger_sidecar::RUNTIME_VERSION);
    options.level = level.parse()?;
    options.format = if around.console.json() {
        logs::LogFormat::Json
    } else {
        logs::LogFormat::Text
    };
    let (dispatch, _) = logs::dispatch(options, logs::open(None)?);
    tracing::dispatcher::set_global_default(dispatch).context("logs are already set up")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_without_a_protocol_are_refused_by_name() {
        for (type_name, text) in [
            ("state.nothing", "couldn't find state store state.nothing/"),
            ("lock.sqlite", "has no lock store"),
            ("sqlite", "incorrect type sqlite"),
        ] {
            let error = offer(type_name, "").unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
        assert!(matches!(offer("state.sqlite", "v1"), Ok(Offer::State(_))));
    }

    #[test]
    fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _inside = runtime.enter();
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("c.sock");
        let first = bind(&socket).unwrap();
        assert!(bind(&socket).is_err());
        drop(first);
        assert!(bind(&socket).is_ok());
    }
}
