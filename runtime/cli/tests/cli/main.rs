//! The command line from outside: real processes in a home of their own.
//!
//! Started with [`AS_PROGRAM`], this program is `outrigger` itself or one of the apps it runs; otherwise it runs the
//! tests. `OUTRIGGER_DAPRD` puts another sidecar program under the same tests.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a test program prints")]

mod detach;
mod doctor;
mod processes;
mod state;
mod support;
mod upkeep;
mod usage;
mod verbs;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    panic::{AssertUnwindSafe, catch_unwind},
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

use support::AS_PROGRAM;

fn tests() -> impl Iterator<Item = (&'static str, fn())> {
    let all = [
        processes::TESTS,
        verbs::TESTS,
        state::TESTS,
        doctor::TESTS,
        upkeep::TESTS,
        usage::TESTS,
        detach::TESTS,
    ];
    all.into_iter().flatten().copied()
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if std::env::var_os(AS_PROGRAM).is_some() {
        if args.get(1).is_some_and(|arg| arg == "app") {
            return app(&args[2..]);
        }
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        return outrigger_cli::main(std::env::args_os());
    }
    // The few words of the usual harness that cargo and its friends say.
    if args.iter().any(|arg| arg == "--list") {
        tests().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let filters: Vec<&String> = args[1..].iter().filter(|arg| !arg.starts_with('-')).collect();
    let mut failed = 0;
    for (name, test) in tests() {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter.as_str())) {
            continue;
        }
        let since = Instant::now();
        let passed = catch_unwind(AssertUnwindSafe(test)).is_ok();
        let took = since.elapsed().as_millis();
        println!(
            "test {name} ... {} ({took} ms)",
            if passed { "ok" } else { "FAILED" }
        );
        failed += usize::from(!passed);
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The apps under test.
fn app(args: &[String]) -> ExitCode {
    match args[0].as_str() {
        "exit" => ExitCode::from(args[1].parse::<u8>().unwrap()),
        "park" => park(),
        "mute" => {
            println!("said before it was mute");
            park()
        }
        // A process that starts another one, as `npm start` does.
        "family" => {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["app", "park"])
                .spawn()
                .unwrap();
            println!("child {}", child.id());
            let _ = child.wait();
            park()
        }
        // Answers every path but the sidecar's own questions with its process id.
        "serve" => serve(),
        // As an app that takes its time to start.
        "late" => {
            thread::park_timeout(Duration::from_millis(args[1].parse().unwrap()));
            serve()
        }
        "environment" => {
            for name in ["APP_ID", "DAPR_HTTP_PORT", "DAPR_GRPC_PORT", "GREETING"] {
                println!("{name}={}", std::env::var(name).unwrap_or_default());
            }
            park()
        }
        other => panic!("no app {other}"),
    }
}

fn serve() -> ExitCode {
    let port = std::env::var("APP_PORT").unwrap();
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
    println!("serving as {} on {port}", std::env::var("APP_ID").unwrap());
    for stream in listener.incoming().flatten() {
        thread::spawn(move || answer(stream));
    }
    ExitCode::SUCCESS
}

fn park() -> ExitCode {
    loop {
        thread::park();
    }
}

fn answer(stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    loop {
        let (mut path, mut length, mut last) = (String::new(), 0, false);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if path.is_empty() {
                path = line.split(' ').nth(1).unwrap_or("").to_owned();
            }
            let field = line.to_ascii_lowercase();
            if let Some(value) = field.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            last |= field.starts_with("connection: close");
            if line == "\r\n" {
                break;
            }
        }
        let mut sent = String::new();
        let _ = (&mut reader).take(length).read_to_string(&mut sent);
        let (status, body) = match path.split('?').next().unwrap_or("") {
            "/dapr/subscribe" => (
                "200 OK",
                r#"[{"pubsubname":"pubsub","topic":"placed","route":"/placed"}]"#.to_owned(),
            ),
            path if path.starts_with("/dapr/") => ("404 Not Found", String::new()),
            "/echo" => ("200 OK", sent),
            "/placed" => {
                println!("event {sent}");
                ("200 OK", String::new())
            }
            "/refuse" => ("418 I'm a teapot", "no coffee here".to_owned()),
            _ => ("200 OK", std::process::id().to_string()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if writer.write_all(head.as_bytes()).is_err() || last {
            return;
        }
    }
}
