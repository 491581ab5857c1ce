//! Settings of components that are the sidecar's business.

use outrigger_component::{Error, SecretString, Spec};
use outrigger_resources::kinds::{Component, Resource as _};
use outrigger_sidecar_state::{EncryptionKeys, NamedKey, StoreSettings};

use super::Failure;

/// What the sidecar itself reads from a state store's file: key prefix and encryption keys, each key with the name
/// of the secret that it came from.
pub(super) fn store_settings(component: &Component, spec: &Spec) -> Result<StoreSettings, Failure> {
    let failed = |error| Failure {
        kind: "CREATE_COMPONENT_FAILURE",
        error,
    };
    let mut settings = StoreSettings::from_properties(component.name(), &spec.properties)
        .map_err(|error| failed(Error::configuration(error.message().to_owned())))?;
    let key = |wanted: &str| -> Result<Option<NamedKey>, Failure> {
        let found =
            component.spec.metadata.iter().find(|pair| {
                pair.name == wanted && pair.value.is_set() && !pair.secret_key_ref.name.is_empty()
            });
        found
            .map(|pair| {
                NamedKey::from_hex(
                    pair.secret_key_ref.name.clone(),
                    &SecretString::from(pair.value.text()),
                )
            })
            .transpose()
            .map_err(failed)
    };
    if let Some(primary) = key("primaryEncryptionKey")? {
        settings.encryption = Some(EncryptionKeys {
            primary,
            secondary: key("secondaryEncryptionKey")?,
        });
        tracing::info!(
            target: "dapr.runtime.processor.state",
            "Automatic encryption enabled for state store {}",
            component.name()
        );
    }
    Ok(settings)
}
