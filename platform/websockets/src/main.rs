//! `websocketmanager`: the service.

use std::process::ExitCode;

use outrigger_platform_websockets::{definition, service};

fn main() -> ExitCode {
    outrigger_platform_service::run(&definition(), service)
}
