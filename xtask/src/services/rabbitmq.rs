//! RabbitMQ 3.10, with a port mapper of its own.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;

use super::{
    Server, Started,
    packages::Package,
    place::{Place, answers},
    user::User,
};
use crate::repo;

pub(super) const SERVER: Server = Server {
    name: "rabbitmq",
    package: Some(Package {
        name: "rabbitmq-server",
        present: || programs().is_some(),
    }),
    start,
};

/// The folder of the real scripts: Debian's on the path insist on root and become another user.
fn programs() -> Option<PathBuf> {
    let debian = PathBuf::from("/usr/lib/rabbitmq/bin");
    if debian.join("rabbitmq-server").is_file() {
        return Some(debian);
    }
    Some(repo::which("rabbitmq-server")?.parent()?.to_owned())
}

fn start(place: &Place) -> anyhow::Result<Started> {
    let programs = programs().context("rabbitmq-server is not here")?;
    let epmd = repo::which("epmd").context("epmd is not here")?;
    let user = User::unprivileged("rabbitmq")?;
    let folder = place.folder("rabbitmq", &user)?;
    let [port, distribution, mapper] = outrigger_test_ports::free()?;
    let environment = environment(&folder, port, distribution, mapper);

    // Erlang would start it as a daemon, which nobody ends.
    let mut names = place.launch(
        "epmd",
        user.command(epmd)
            .current_dir(&folder)
            .args(["-address", "127.0.0.1", "-port", &mapper.to_string()]),
        "KILL",
    )?;
    // Its request for the list of names, which starts with its own port.
    names.until_ready(|| answers(mapper, b"\x00\x01n", ""))?;

    let mut broker = place.launch(
        "rabbitmq",
        user.command(programs.join("rabbitmq-server"))
            .current_dir(&folder)
            .envs(environment.iter().map(|(name, value)| (*name, value)))
            // Become the virtual machine instead of staying beside it as a shell.
            .env("RUNNING_UNDER_SYSTEMD", "true"),
        // Nothing in it is worth a shutdown of several seconds.
        "KILL",
    )?;
    // Its answer to the protocol header is the method connection.start, which names the product.
    broker.until_ready(|| answers(port, b"AMQP\x00\x00\x09\x01", "RabbitMQ"))?;

    let restart = folder.join("restart");
    fs::write(&restart, restart_script(&programs, &environment))?;
    fs::set_permissions(&restart, fs::Permissions::from_mode(0o755))?;
    user.own(&restart)?;
    Ok(Started {
        processes: vec![names, broker],
        variables: vec![
            (
                "OUTRIGGER_TEST_RABBITMQ",
                format!("amqp://guest:guest@127.0.0.1:{port}/"),
            ),
            (
                "OUTRIGGER_TEST_RABBITMQ_RESTART",
                restart.to_string_lossy().into_owned(),
            ),
        ],
    })
}

fn environment(folder: &Path, port: u16, distribution: u16, mapper: u16) -> Vec<(&'static str, String)> {
    let inside = |name: &str| folder.join(name).to_string_lossy().into_owned();
    vec![
        ("HOME", inside("")),
        ("ERL_EPMD_PORT", mapper.to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        ("RABBITMQ_NODENAME", format!("outrigger-{port}@localhost")),
        ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".to_owned()),
        ("RABBITMQ_NODE_PORT", port.to_string()),
        ("RABBITMQ_DIST_PORT", distribution.to_string()),
        // What the machine's own broker is configured with must not matter.
        ("RABBITMQ_CONF_ENV_FILE", inside("no-environment")),
        ("RABBITMQ_CONFIG_FILE", inside("no-configuration")),
        ("RABBITMQ_ADVANCED_CONFIG_FILE", inside("no-advanced")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", inside("no-plugins")),
        ("RABBITMQ_MNESIA_BASE", inside("mnesia")),
        ("RABBITMQ_LOG_BASE", inside("log")),
        ("RABBITMQ_LOGS", "-".to_owned()),
        ("RABBITMQ_PID_FILE", inside("pid")),
        ("RABBITMQ_GENERATED_CONFIG_DIR", inside("generated")),
        // Idle schedulers must not spin beside compilers.
        (
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none".to_owned(),
        ),
    ]
}

/// For tests that need the broker to go away and come back: all connections break, durable things stay.
fn restart_script(programs: &Path, environment: &[(&'static str, String)]) -> String {
    let mut script = String::from("#!/bin/sh -e\n");
    for (name, value) in environment {
        script.push_str(&format!("export {name}='{value}'\n"));
    }
    let control = programs.join("rabbitmqctl");
    for verb in ["stop_app", "start_app"] {
        script.push_str(&format!("'{}' --quiet {verb}\n", control.display()));
    }
    script
}
