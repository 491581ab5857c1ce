//! `gateway`: the API gateway of the platform.

use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::Context as _;
use outrigger_platform_gateway::{GRPC_WEB_PORT, definition, make};
use outrigger_platform_service::run;
use tokio::net::TcpListener;

fn main() -> ExitCode {
    run(&definition(), |context| async {
        let address: IpAddr = context.http.ip();
        let port = context.settings.port("GrpcWebPort").unwrap_or(GRPC_WEB_PORT);
        let web = TcpListener::bind((address, port))
            .await
            .with_context(|| format!("cannot listen on {address}:{port} (GrpcWebPort)"))?;
        make(context, web).await
    })
}
