//! The load generator and the app behind the sidecars, for `cargo xtask bench`.
//!
//! Both speak plain HTTP/1.1 over sockets, with requests built once and buffers used again, on one thread each: what
//! they cost must stay small beside what they measure. gRPC goes over hyper, with messages built once. Each prints one
//! line of JSON.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line: its results go to stdout"
)]

use std::process::ExitCode;

mod app;
mod clock;
mod connection;
mod drive;
mod grpc;
mod grpc_app;
mod message;
mod options;
mod samples;
mod seen;
mod upload;

use options::Options;

const USAGE: &str = "usage:
  outrigger-load app [--grpc | --subscribe PUBSUB]
  outrigger-load drive --target HOST:PORT --path PATH [--method M] [--header 'K: V']... [--body TEXT | --event-bytes N [--batch N]]
                       [--keys N] [--connections N] [--seconds S] [--rate PER_SECOND]
  outrigger-load grpc --target HOST:PORT --path /SERVICE/METHOD --message bytes|invoke-service|empty [--app-id ID] [--gzip]
                       [--connections N] [--streams N] [--seconds S]
  outrigger-load upload --target HOST:PORT --path PATH --bytes N [--chunked]";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let verb = arguments.next().unwrap_or_default();
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| {
            let options = Options::parse(arguments)?;
            match verb.as_str() {
                "app" => runtime.block_on(app::serve(options)),
                "drive" => runtime.block_on(drive::drive(options)),
                "grpc" => runtime.block_on(grpc::drive(options)),
                "upload" => runtime.block_on(upload::upload(options)),
                _ => anyhow::bail!("{USAGE}"),
            }
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outrigger-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}
