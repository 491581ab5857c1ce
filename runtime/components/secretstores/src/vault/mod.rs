//! `secretstores.hashicorp.vault`: a key/value engine, version 2, of HashiCorp Vault or OpenBao.
//!
//! Behaviour and texts are those of components-contrib `secretstores/hashicorp/vault`, but for these: a token file is read
//! again when it changes, as agents rotate it; secrets of a bulk read are fetched side by side; names are encoded into
//! the address, and one with a `.` or `..` step is refused, because Vault would read it as another secret than the one
//! that scopes were asked about.

mod backend;
mod client;
mod config;
mod tls;

use std::sync::Arc;

use outrigger_component::{Error, Open, Registration, Spec, open_with};
use outrigger_secrets::DynSecretStore;

pub use backend::VaultStore;
pub use config::VaultConfig;

/// How `secretstores.hashicorp.vault` is built. Metadata, all upstream's:
///
/// | name | default | meaning |
/// | --- | --- | --- |
/// | `vaultAddr` | `https://127.0.0.1:8200` | where it is |
/// | `vaultToken`, `vaultTokenMountPath` | | the token, or a file that holds it: one of both |
/// | `vaultKVPrefix`, `vaultKVUsePrefix` | `dapr`, true | the folder of the secrets in the engine |
/// | `enginePath` | `secret` | where the engine is mounted |
/// | `vaultValueType` | `map` | `text`: the whole secret is one value, as JSON |
/// | `caPem`, `caPath`, `caCert` | system's roots | PEM, a folder of PEM files, a PEM file: the first one given |
/// | `skipVerify`, `tlsServerName` | false | whether and for which name the certificate is checked |
///
/// Of a request: `version_id`.
pub const VAULT: Registration<dyn DynSecretStore> = Registration {
    type_names: &["secretstores.hashicorp.vault"],
    versions: &["v1"],
    validate,
};

fn validate(spec: &Spec) -> Result<Open<dyn DynSecretStore>, Error> {
    let config = VaultConfig::parse(&spec.properties)?;
    Ok(open_with(async move |host| {
        Ok(Arc::new(VaultStore::open(config, &host).await?) as Arc<dyn DynSecretStore>)
    }))
}

#[cfg(test)]
mod tests;
