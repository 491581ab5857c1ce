//! JSON as Go's `encoding/json` reads and writes it.
//!
//! Envelopes go over brokers and to apps whose tests compare bytes, and messages must look the same whichever
//! runtime of a mixed cluster wrote them: keys of maps sorted, `<`, `>`, `&`, U+2028 and U+2029 escaped, numbers
//! verbatim (`UseNumber`) or as doubles. [`transcode`] rewrites JSON text in one pass, without a tree.

mod decode;
mod format;
mod scan;

pub use decode::{Shape, decode};
pub use format::{to_vec, write_f64, write_string};
pub(crate) use scan::decode_string;
pub use scan::{Error, MAX_DEPTH, Numbers, Scanner, transcode, transcode_prefix};
