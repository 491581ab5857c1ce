//! HTTP middleware: `middleware.http.uppercase` and `middleware.http.routeralias` (A9.3, A9.4).
//!
//! Neither needs a whole body: both let requests and responses stream.

mod routeralias;
mod uppercase;

pub use routeralias::{ROUTER_ALIAS, RouterAlias, RouterAliasConfig};
pub use uppercase::{UPPERCASE, Uppercase, UppercaseConfig};
