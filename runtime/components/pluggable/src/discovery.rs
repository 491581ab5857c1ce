//! Which components other processes offer: a folder of sockets, each asked by gRPC reflection (upstream
//! `pkg/components/pluggable/discovery.go`).

use std::{
    collections::{BTreeSet, HashMap},
    io,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, stream};
use outrigger_bindings::Binding;
use outrigger_component::{Error, Open, Spec, open_with};
use outrigger_pubsub::DynPubSub;
use outrigger_secrets::DynSecretStore;
use outrigger_state::DynStateStore;
use tonic::{Code, transport::Channel};
use tonic_reflection::pb::{v1, v1alpha};

use crate::client;

/// Environment variable that names the folder.
pub const FOLDER_VARIABLE: &str = "DAPR_COMPONENTS_SOCKETS_FOLDER";
/// The folder where the variable is not set.
pub const DEFAULT_FOLDER: &str = "/tmp/dapr-components-sockets";

const LOG: &str = "pluggable-components-discovery";
/// How long a socket that takes connections may take to say what it offers. Upstream waits for ever.
const ANSWER: Duration = Duration::from_secs(10);
/// Sockets asked side by side.
const AT_ONCE: usize = 16;
/// Most sockets of a folder that are looked at.
const MAX_SOCKETS: usize = 1024;

/// The services whose presence makes a type of that block.
const STATE: &str = "dapr.proto.components.v1.StateStore";
const PUBSUB: &str = "dapr.proto.components.v1.PubSub";
const INPUT: &str = "dapr.proto.components.v1.InputBinding";
const OUTPUT: &str = "dapr.proto.components.v1.OutputBinding";
const SECRETS: &str = "dapr.proto.components.v1.SecretStore";

/// The component types found, by the names of their sockets. Empty by default.
#[derive(Debug, Default, Clone)]
pub struct Discovered {
    /// By lower-case name.
    sockets: HashMap<String, Socket>,
}

#[derive(Debug, Clone)]
struct Socket {
    path: PathBuf,
    services: Arc<BTreeSet<String>>,
}

/// Looks at a folder of sockets. A folder that is not there is an empty one; a file that is no socket, and a socket
/// that does not answer, is logged and left out. The name of a socket without its extension names its types.
pub async fn discover(folder: &Path) -> Discovered {
    let found = match sockets(folder).await {
        Ok(found) => found,
        Err(error) => {
            tracing::error!(
                target: LOG,
                "could not list pluggable components unix sockets in {}: {error}",
                folder.display()
            );
            return Discovered::default();
        }
    };
    let asked: Vec<_> = stream::iter(found)
        .map(|path| async move {
            let services = tokio::time::timeout(ANSWER, services(&path)).await;
            let services = services.unwrap_or_else(|_| {
                Err(Error::unavailable(format!(
                    "it did not say within {ANSWER:?} what it offers"
                )))
            });
            (path, services)
        })
        .buffered(AT_ONCE)
        .collect()
        .await;
    let mut discovered = Discovered::default();
    for (path, services) in asked {
        let services = match services {
            Ok(services) => services,
            Err(error) => {
                tracing::error!(
                    target: LOG,
                    "could not use the pluggable component at {}: {} (start it, or remove the file)",
                    path.display(),
                    error.chain()
                );
                continue;
            }
        };
        let name = name_of(&path);
        for service in [STATE, PUBSUB, INPUT, OUTPUT, SECRETS] {
            if services.contains(service) {
                tracing::info!(
                    target: LOG,
                    "pluggable component '{name}' was successfully registered for '{service}'"
                );
            }
        }
        let socket = Socket {
            path,
            services: Arc::new(services),
        };
        discovered.sockets.insert(name.to_lowercase(), socket);
    }
    discovered
}

/// The sockets of a folder, in the order of their names.
async fn sockets(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut entries = match tokio::fs::read_dir(folder).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    while let Some(entry) = entries.next_entry().await? {
        let kind = entry.file_type().await?;
        if kind.is_socket() && found.len() < MAX_SOCKETS {
            found.push(entry.path());
        } else if !kind.is_dir() {
            tracing::warn!(target: LOG, "could not use socket for file {}", entry.path().display());
        }
    }
    found.sort();
    Ok(found)
}

/// The file's name up to its last dot, as Go's `filepath.Ext` cuts it.
fn name_of(path: &Path) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    file.rsplit_once('.').map_or(&*file, |(name, _)| name).to_owned()
}

/// The services behind a socket: by `v1alpha`, which all SDKs serve, and by `v1` where that is all there is.
async fn services(socket: &Path) -> Result<BTreeSet<String>, Error> {
    let channel = client::connect(client::dial(socket).await?).await?;
    match list_v1alpha(channel.clone()).await {
        Err(status) if status.code() == Code::Unimplemented => list_v1(channel).await,
        listed => listed,
    }
    .map_err(|status| crate::status::error(&status))
}

/// Both versions of the protocol are the same messages in two packages.
macro_rules! list {
    ($name:ident, $version:ident) => {
        async fn $name(channel: Channel) -> Result<BTreeSet<String>, tonic::Status> {
            use $version::{
                server_reflection_client::ServerReflectionClient, server_reflection_request::MessageRequest,
                server_reflection_response::MessageResponse,
            };
            let request = $version::ServerReflectionRequest {
                host: String::new(),
                message_request: Some(MessageRequest::ListServices(String::new())),
            };
            let mut answers = ServerReflectionClient::new(channel)
                .server_reflection_info(stream::iter([request]))
                .await?
                .into_inner();
            match answers
                .message()
                .await?
                .and_then(|answer| answer.message_response)
            {
                Some(MessageResponse::ListServicesResponse(list)) => Ok(list
                    .service
                    .into_iter()
                    .map(|service| service.name)
                    .collect()),
                _ => Err(tonic::Status::internal("it does not list its services")),
            }
        }
    };
}

list!(list_v1alpha, v1alpha);
list!(list_v1, v1);

impl Discovered {
    /// How the state store of a spec is opened, if a socket offers its type.
    #[must_use]
    pub fn state(&self, spec: &Spec) -> Option<Open<dyn DynStateStore>> {
        let (socket, spec) = self.offered("state", spec, STATE)?;
        Some(open_with(async move |_host| {
            client::open_state(socket.path, spec, socket.services).await
        }))
    }

    /// How the broker of a spec is opened, if a socket offers its type.
    #[must_use]
    pub fn pubsub(&self, spec: &Spec) -> Option<Open<dyn DynPubSub>> {
        let (socket, spec) = self.offered("pubsub", spec, PUBSUB)?;
        Some(open_with(async move |host| {
            client::open_pubsub(socket.path, spec, host.app_id).await
        }))
    }

    /// How the secret store of a spec is opened, if a socket offers its type.
    #[must_use]
    pub fn secret_store(&self, spec: &Spec) -> Option<Open<dyn DynSecretStore>> {
        let (socket, spec) = self.offered("secretstores", spec, SECRETS)?;
        Some(open_with(async move |_host| {
            client::open_secrets(socket.path, spec).await
        }))
    }

    /// How the binding of a spec is opened, if a socket offers its type: the sides that it offers.
    #[must_use]
    pub fn binding(&self, spec: &Spec) -> Option<Open<Binding>> {
        let (socket, spec) = self
            .offered("bindings", spec, INPUT)
            .or_else(|| self.offered("bindings", spec, OUTPUT))?;
        Some(open_with(async move |_host| {
            let mut binding = Binding::default();
            if socket.services.contains(INPUT) {
                binding.input = Some(client::open_input(socket.path.clone(), &spec).await?);
            }
            if socket.services.contains(OUTPUT) {
                binding.output = Some(client::open_output(socket.path.clone(), &spec).await?);
            }
            Ok(Arc::new(binding))
        }))
    }

    /// The socket that offers the type of a spec. Discovered types have no versions: only the first one is theirs.
    fn offered(&self, block: &str, spec: &Spec, service: &str) -> Option<(Socket, Spec)> {
        if !matches!(spec.version.to_ascii_lowercase().as_str(), "" | "v0" | "v1") {
            return None;
        }
        let lower = spec.type_name.to_lowercase();
        let name = lower.strip_prefix(block)?.strip_prefix('.')?;
        let socket = self.sockets.get(name)?;
        socket
            .services
            .contains(service)
            .then(|| (socket.clone(), spec.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_at_the_last_dot() {
        for (path, name) in [("/x/a.sock", "a"), ("/x/a", "a"), ("/x/a.b.sock", "a.b")] {
            assert_eq!(name_of(Path::new(path)), name);
        }
    }
}
