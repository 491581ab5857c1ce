//! `bindings.cron`: events by the clock (A5.3).

mod backend;
mod clock;
mod config;
mod reading;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use outrigger_bindings::{Binding, DynInputBinding};
use outrigger_component::{Error, Open, Registration, Spec, open_with};

pub use backend::Cron;
pub use clock::{Clock, SystemClock, Zone};
pub use config::CronConfig;

/// How `bindings.cron` is built.
pub const CRON: Registration<Binding> = Registration {
    type_names: &["bindings.cron"],
    versions: &["v1"],
    validate,
};

fn validate(spec: &Spec) -> Result<Open<Binding>, Error> {
    let config = CronConfig::parse(&spec.properties)?;
    Ok(open_with(async move |host| {
        let cron = Cron::new(config, &host.environment, Arc::new(SystemClock));
        Ok(Arc::new(Binding {
            input: Some(Arc::new(cron) as Arc<dyn DynInputBinding>),
            output: None,
        }))
    }))
}
