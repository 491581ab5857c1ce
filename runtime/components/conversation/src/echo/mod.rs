//! `conversation.echo`: answers with what it was told, for tests and first steps.

mod backend;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use outrigger_component::{Error, Open, Registration, Spec, open_with};
use outrigger_conversation::DynConversation;

pub use backend::Echo;

/// How `conversation.echo` is built. It has no metadata.
pub const ECHO: Registration<dyn DynConversation> = Registration {
    type_names: &["conversation.echo"],
    versions: &["v1"],
    validate,
};

fn validate(_spec: &Spec) -> Result<Open<dyn DynConversation>, Error> {
    Ok(open_with(async |_host| {
        Ok(Arc::new(Echo) as Arc<dyn DynConversation>)
    }))
}
