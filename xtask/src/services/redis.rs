//! Redis 7, in memory only.

use anyhow::Context;

use super::{
    Server, Started,
    packages::Package,
    place::{Place, answers},
    user::User,
};
use crate::repo;

pub(super) const SERVER: Server = Server {
    name: "redis",
    package: Some(Package {
        name: "redis-server",
        present: || repo::which("redis-server").is_some(),
    }),
    start,
};

fn start(place: &Place) -> anyhow::Result<Started> {
    let program = repo::which("redis-server").context("redis-server is not here")?;
    let user = User::unprivileged("redis")?;
    let folder = place.folder("redis", &user)?;
    let [port] = outrigger_test_ports::free()?;
    let mut process = place.launch(
        "redis",
        user.command(program)
            .current_dir(&folder)
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--save", "", "--appendonly", "no"]),
        "INT",
    )?;
    process.until_ready(|| answers(port, b"PING\r\n", "+PONG"))?;
    Ok(Started {
        processes: vec![process],
        variables: vec![("OUTRIGGER_TEST_REDIS", format!("127.0.0.1:{port}"))],
    })
}
