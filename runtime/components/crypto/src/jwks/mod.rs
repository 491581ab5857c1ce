//! `crypto.dapr.jwks`: keys of a JSON Web Key Set that stands in the metadata, in a file or behind an address
//! (components-contrib `crypto/jwks`).

mod backend;
mod config;
mod set;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use outrigger_component::{Error, Open, Registration, Spec, open_with};
use outrigger_crypto::DynCryptoProvider;

pub use backend::{Jwks, KeySet};
pub use config::JwksConfig;

/// How `crypto.dapr.jwks` is built.
pub const JWKS: Registration<dyn DynCryptoProvider> = Registration {
    type_names: &["crypto.dapr.jwks"],
    versions: &["v1"],
    validate,
};

fn validate(spec: &Spec) -> Result<Open<dyn DynCryptoProvider>, Error> {
    let config = JwksConfig::parse(&spec.properties)?;
    Ok(open_with(async move |host| {
        let provider = Jwks::open(&config, &host).await?;
        Ok(Arc::new(provider) as Arc<dyn DynCryptoProvider>)
    }))
}
