//! HTTP middleware: the component types `middleware.http.*` (A9.3–A9.6).
//!
//! | Type | Does |
//! | --- | --- |
//! | `bearer` | lets only requests with a good token of an issuer pass |
//! | `external` | ours: asks a process of its own, in any language, over a Unix socket |
//! | `oauth2` | sends browsers to an authorization server and remembers them by a cookie |
//! | `oauth2clientcredentials` | adds a token of the sidecar's own to requests |
//! | `opa` | asks a Rego policy |
//! | `ratelimit` | bounds requests per second of one client |
//! | `routeralias` | other paths for paths of the API |
//! | `routerchecker` | refuses paths that do not match |
//! | `uppercase` | a sample: makes letters capitals |
//! | `validator` | ours: checks request bodies against JSON schemas |
//! | `wasm` | runs a WebAssembly guest (feature `wasm`) |
//!
//! All of them work in both pipelines. Bodies stream through but where a handler says that it needs one whole.

mod bearer;
#[cfg(unix)]
mod external;
mod failure;
mod filter;
mod oauth;
mod oauth2;
mod oauth2clientcredentials;
mod opa;
mod path;
mod ratelimit;
mod respond;
mod routeralias;
mod routerchecker;
mod template;
#[cfg(test)]
mod testing;
mod uppercase;
mod validator;
#[cfg(feature = "wasm")]
mod wasm;

pub use bearer::{BEARER, Bearer, BearerConfig};
#[cfg(unix)]
pub use external::{EXTERNAL, External, ExternalConfig, Responses};
pub use filter::PathFilter;
pub use oauth::AuthStyle;
pub use oauth2::{OAUTH2, Oauth2, Oauth2Config};
pub use oauth2clientcredentials::{CLIENT_CREDENTIALS, ClientCredentials, ClientCredentialsConfig};
pub use opa::{OPA, Opa, OpaConfig};
pub use ratelimit::{RATE_LIMIT, RateLimit};
pub use routeralias::{ROUTER_ALIAS, RouterAlias, RouterAliasConfig};
pub use routerchecker::{ROUTER_CHECKER, RouterChecker};
pub use uppercase::{UPPERCASE, Uppercase, UppercaseConfig};
pub use validator::{SchemaRule, SchemaSource, VALIDATOR, Validator, ValidatorConfig};
#[cfg(feature = "wasm")]
pub use wasm::{WASM, Wasm, WasmConfig};
