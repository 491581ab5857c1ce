//! The API documentation and the book's links.

use crate::{args::Args, house, repo};

/// Builds the documentation with warnings denied.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    args.finish()?;
    house::report("links", &house::links()?)?;
    repo::step(
        "cargo doc",
        repo::cargo()
            .args(["doc", "--locked", "--workspace", "--no-deps"])
            .env("RUSTDOCFLAGS", "--deny warnings"),
    )
}
