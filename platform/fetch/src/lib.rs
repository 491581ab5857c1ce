//! Fetches what a stranger's URL names, without being sent where the stranger could not go (requirement F2).
//!
//! A service that downloads what users name can be made to ask its own network: the metadata service of a cloud, an
//! administrator's page on localhost, a neighbour without a password. So every URL goes through the same steps, and
//! each redirect through all of them again:
//!
//! 1. [`Target`] reads it as browsers do (WHATWG), so that `0x7f.1` and `127.0.0.1` are one address, and takes only
//!    `http` and `https`, without user names.
//! 2. The name is resolved, and every address of it must be [public](is_public). One inner address among public ones
//!    refuses all.
//! 3. The connection goes to an address that was checked, never to the name: a resolver that answers otherwise the
//!    second time is not asked a second time.
//!
//! Hosts on the allow-list ([`Limits::allowed_hosts`]) skip the second step; an
//! [exclusive](AllowedHosts::exclusive) list takes no other host at all.

mod address;
mod error;
mod fetcher;
mod resolve;
mod target;

pub use address::is_public;
pub use error::{FetchError, Refusal};
pub use fetcher::{Credential, Fetched, Fetcher, Limits};
pub use resolve::{Resolve, SystemResolver};
pub use target::{AllowedHosts, Target};
