//! `middleware.http.ratelimit`: so many requests per second for one client and path (components-contrib
//! `middleware/http/ratelimit` over tollbooth 7.0.1, whose rules these are).

mod backend;
mod buckets;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use outrigger_component::{Error, Open, Registration, Spec, open_with};
use outrigger_middleware::Middleware;

pub use backend::RateLimit;

/// How `middleware.http.ratelimit` is built.
pub const RATE_LIMIT: Registration<dyn Middleware> = Registration {
    type_names: &["middleware.http.ratelimit"],
    versions: &["v1"],
    validate,
};

/// Upstream's default.
const DEFAULT_RATE: f64 = 100.0;

fn validate(spec: &Spec) -> Result<Open<dyn Middleware>, Error> {
    let rate = spec
        .properties
        .number::<f64>("maxRequestsPerSecond")?
        .unwrap_or(DEFAULT_RATE);
    // Not `<= 0.0`: NaN must not pass.
    if !(rate > 0.0 && rate.is_finite()) {
        return Err(Error::configuration(
            "metadata property maxRequestsPerSecond must be a positive value",
        ));
    }
    Ok(open_with(async move |_host| {
        Ok(Arc::new(RateLimit::new(rate)) as Arc<dyn Middleware>)
    }))
}
