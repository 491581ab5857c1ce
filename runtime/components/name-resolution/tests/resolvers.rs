//! The resolvers over real sockets and real files.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use outrigger_component::{Error, ErrorKind};
use outrigger_components_name_resolution::{Composite, Mdns, MdnsOptions};
use outrigger_name_resolution::{Addresses, DynResolver, Instance, Resolver, Target};

/// Generous: hosts under test are busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// App ids of their own keep test runs on one network apart.
fn app_id(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

fn instance(app_id: &str, port: u16, id: &str) -> Instance {
    Instance {
        app_id: app_id.into(),
        namespace: "default".into(),
        internal_address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        http_port: 3500,
        app_port: 0,
        instance_id: id.into(),
    }
}

fn target(app_id: &str) -> Target {
    Target {
        app_id: app_id.into(),
        namespace: "default".into(),
        port: 50002,
    }
}

async fn resolve(resolver: &impl Resolver, app_id: &str) -> Result<Addresses, Error> {
    Resolver::resolve(resolver, &target(app_id)).await
}

/// Asks until the answer is as wanted.
async fn eventually(resolver: &impl Resolver, app_id: &str, wanted: &[&str]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut found = resolve(resolver, app_id).await.unwrap_or_default();
        found.sort();
        if found == wanted {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{app_id}: {found:?} instead of {wanted:?}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Two resolvers that hear each other, or nothing with the reason printed where the host has no multicast.
async fn pair(hostname: &str) -> Option<(Mdns, Mdns)> {
    let probe = app_id("probe");
    let opened =
        Mdns::open(MdnsOptions::new(hostname)).and_then(|a| Ok((a, Mdns::open(MdnsOptions::new(hostname))?)));
    let (a, b) = match opened {
        Ok(pair) => pair,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "skipped: {}", error.chain());
            return None;
        }
    };
    Resolver::register(&a, instance(&probe, 1, "probe"))
        .await
        .unwrap();
    for _ in 0..5 {
        if resolve(&b, &probe).await.is_ok() {
            return Some((a, b));
        }
    }
    let _ = writeln!(
        std::io::stderr(),
        "skipped: multicast datagrams do not come back on this host"
    );
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mdns_finds_all_instances_and_forgets_those_that_leave() {
    let Some((a, b)) = pair("test-host-a").await else {
        return;
    };
    let orders = app_id("orders");
    Resolver::register(&a, instance(&orders, 41001, "1"))
        .await
        .unwrap();
    Resolver::register(&b, instance(&orders, 41002, "2"))
        .await
        .unwrap();
    // Another app whose id ends alike is not taken for it.
    Resolver::register(&b, instance(&format!("my{orders}"), 41003, "2"))
        .await
        .unwrap();

    let asker = Mdns::open(MdnsOptions::new("test-host-b")).unwrap();
    let started = Instant::now();
    assert!(!resolve(&asker, &orders).await.unwrap().is_empty());
    let _ = writeln!(std::io::stderr(), "first answer after {:?}", started.elapsed());
    eventually(&asker, &orders, &["127.0.0.1:41001", "127.0.0.1:41002"]).await;
    // A known app costs no network.
    let started = Instant::now();
    resolve(&asker, &orders).await.unwrap();
    let _ = writeln!(std::io::stderr(), "known answer after {:?}", started.elapsed());

    Resolver::close(&b).await.unwrap();
    eventually(&asker, &orders, &["127.0.0.1:41001"]).await;
    assert_eq!(
        Resolver::register(&b, instance(&orders, 41002, "2"))
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::Closed
    );
    drop(a);
    let deadline = Instant::now() + PATIENCE;
    while resolve(&asker, &orders).await.is_ok() {
        assert!(
            Instant::now() < deadline,
            "the goodbye of a dropped resolver was not heard"
        );
    }
    let error = resolve(&asker, &orders).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string()),
        (ErrorKind::NotFound, format!("couldn't find service: {orders}"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mdns_wakes_a_waiting_resolve_when_the_app_appears() {
    let Some((a, b)) = pair("test-host-c").await else {
        return;
    };
    let late = app_id("late");
    let (found, ()) = tokio::join!(resolve(&b, &late), async {
        tokio::task::yield_now().await;
        Resolver::register(&a, instance(&late, 41010, "1")).await.unwrap();
    });
    assert_eq!(found.unwrap(), ["127.0.0.1:41010"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mdns_gives_back_an_address_reported_dead_only_when_it_answers_again() {
    let Some((a, b)) = pair("test-host-d").await else {
        return;
    };
    let flaky = app_id("flaky");
    Resolver::register(&a, instance(&flaky, 41020, "1"))
        .await
        .unwrap();
    eventually(&b, &flaky, &["127.0.0.1:41020"]).await;
    Resolver::report_failure(&b, &target(&flaky), "127.0.0.1:41020");
    eventually(&b, &flaky, &["127.0.0.1:41020"]).await;
    // Our own instance answers without the network.
    assert_eq!(resolve(&a, &flaky).await.unwrap(), ["127.0.0.1:41020"]);
    let twice = Resolver::register(&a, instance(&flaky, 41021, "1"))
        .await
        .unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::Configuration);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mdns_survives_garbage_and_answers_plain_resolvers() {
    let Some((a, b)) = pair("test-host-e").await else {
        return;
    };
    let sturdy = app_id("sturdy");
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    if socket.send_to(&[], "224.0.0.251:5353").is_err() {
        // A host with loopback only has no route for multicast.
        socket2::SockRef::from(&socket)
            .set_multicast_if_v4(&Ipv4Addr::LOCALHOST)
            .unwrap();
    }
    let mut query = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in [sturdy.as_bytes(), b"local"] {
        query.push(label.len() as u8);
        query.extend_from_slice(label);
    }
    query.extend_from_slice(&[0, 0, 12, 0, 1]);
    for end in 0..query.len() {
        socket.send_to(&query[..end], "224.0.0.251:5353").unwrap();
    }
    socket.send_to(&[0xff; 512], "224.0.0.251:5353").unwrap();
    Resolver::register(&a, instance(&sturdy, 41030, "1"))
        .await
        .unwrap();
    eventually(&b, &sturdy, &["127.0.0.1:41030"]).await;

    // RFC 6762 §6.7: id and question come back by unicast.
    let deadline = Instant::now() + PATIENCE;
    let mut buffer = [0; 1500];
    let length = loop {
        assert!(Instant::now() < deadline, "no unicast answer");
        socket.send_to(&query, "224.0.0.251:5353").unwrap();
        if let Ok((length, _)) = socket.recv_from(&mut buffer) {
            break length;
        }
    };
    assert_eq!(buffer[..4], [0x12, 0x34, 0x84, 0x00]);
    assert_eq!(buffer[12..query.len()], query[12..]);
    assert!(length > query.len());
}

#[cfg(unix)]
mod registry {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use outrigger_components_name_resolution::RuntimeRegistry;

    use super::*;

    const CHILD_FOLDER: &str = "OUTRIGGER_TEST_REGISTRY";

    /// Not a test of its own: [`a_killed_process_is_gone_at_once`] runs it as the process to be killed.
    #[test]
    fn child_that_registers() {
        let Some(folder) = std::env::var_os(CHILD_FOLDER) else {
            return;
        };
        let registry = RuntimeRegistry::open(folder).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime
            .block_on(Resolver::register(&registry, instance("orders", 42001, "child")))
            .unwrap();
        let _ = writeln!(std::io::stderr(), "registered");
        let mut line = String::new();
        let _ = std::io::stdin().read_line(&mut line);
    }

    fn child(folder: &std::path::Path) -> Child {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "registry::child_that_registers", "--nocapture"])
            .env(CHILD_FOLDER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line == "registered"));
        child
    }

    fn names(folder: &std::path::Path) -> Vec<String> {
        let names = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_killed_process_is_gone_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let registry = RuntimeRegistry::open(folder.path()).unwrap();
        let mut dying = child(folder.path());
        let mut staying = child(folder.path());
        assert_eq!(resolve(&registry, "orders").await.unwrap().len(), 2);
        dying.kill().unwrap();
        dying.wait().unwrap();
        let entries = registry.find(&target("orders")).unwrap();
        assert_eq!(
            entries.iter().map(|entry| entry.pid).collect::<Vec<_>>(),
            [staying.id()]
        );
        staying.kill().unwrap();
        staying.wait().unwrap();
        assert_eq!(
            resolve(&registry, "orders").await.unwrap_err().kind(),
            ErrorKind::NotFound
        );
        // A reader that looks afresh clears the table.
        assert!(
            RuntimeRegistry::open(folder.path())
                .unwrap()
                .entries()
                .unwrap()
                .is_empty()
        );
        assert!(names(folder.path()).is_empty());
    }

    #[tokio::test]
    async fn instances_come_and_go_and_namespaces_are_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run").join("outrigger");
        let (a, b) = (
            RuntimeRegistry::open(&path).unwrap(),
            RuntimeRegistry::open(&path).unwrap(),
        );
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o700
        );
        assert_eq!(
            resolve(&b, "orders").await.unwrap_err().kind(),
            ErrorKind::NotFound
        );
        // The second and third change may fall into one tick of the file system's clock.
        Resolver::register(&a, instance("orders", 1001, "1"))
            .await
            .unwrap();
        assert_eq!(resolve(&b, "orders").await.unwrap(), ["127.0.0.1:1001"]);
        Resolver::register(&a, instance("orders", 1002, "2"))
            .await
            .unwrap();
        assert_eq!(
            resolve(&b, "orders").await.unwrap(),
            ["127.0.0.1:1001", "127.0.0.1:1002"]
        );
        let other = Instance {
            namespace: "prod".into(),
            ..instance("orders", 1003, "3")
        };
        Resolver::register(&b, other).await.unwrap();
        assert_eq!(resolve(&b, "orders").await.unwrap().len(), 2);
        let prod = Target {
            namespace: "prod".into(),
            ..target("orders")
        };
        assert_eq!(Resolver::resolve(&a, &prod).await.unwrap(), ["127.0.0.1:1003"]);
        assert_eq!(b.entries().unwrap().len(), 3);
        for name in names(&path) {
            assert_eq!(
                std::fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
        // An address under suspicion is named last, not hidden.
        Resolver::report_failure(&b, &target("orders"), "127.0.0.1:1001");
        assert_eq!(
            resolve(&b, "orders").await.unwrap(),
            ["127.0.0.1:1002", "127.0.0.1:1001"]
        );
        Resolver::close(&a).await.unwrap();
        assert_eq!(
            resolve(&b, "orders").await.unwrap_err().kind(),
            ErrorKind::NotFound
        );
        drop(b);
        assert!(names(&path).is_empty());
    }

    #[tokio::test]
    async fn a_settled_folder_is_seen_to_change() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (
            RuntimeRegistry::open(folder.path()).unwrap(),
            RuntimeRegistry::open(folder.path()).unwrap(),
        );
        Resolver::register(&a, instance("orders", 1001, "1"))
            .await
            .unwrap();
        let age = || {
            std::fs::metadata(folder.path())
                .unwrap()
                .modified()
                .unwrap()
                .elapsed()
                .unwrap_or_default()
        };
        while age() < Duration::from_millis(150) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for _ in 0..2 {
            assert_eq!(resolve(&b, "orders").await.unwrap().len(), 1);
        }
        let started = Instant::now();
        for _ in 0..1000 {
            resolve(&b, "orders").await.unwrap();
        }
        let _ = writeln!(
            std::io::stderr(),
            "a settled answer takes {:?}",
            started.elapsed() / 1000
        );
        Resolver::register(&a, instance("orders", 1002, "2"))
            .await
            .unwrap();
        assert_eq!(resolve(&b, "orders").await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn foreign_and_damaged_files_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let registry = RuntimeRegistry::open(folder.path()).unwrap();
        Resolver::register(&registry, instance("orders", 1001, "1"))
            .await
            .unwrap();
        let own = folder.path().join(&names(folder.path())[0]);
        symlink(&own, folder.path().join("default.orders.7-0")).unwrap();
        std::fs::create_dir(folder.path().join("default.orders.8-0")).unwrap();
        std::fs::write(folder.path().join("notes.txt"), "mine").unwrap();
        // Held, as if alive, but no entry.
        let damaged = std::fs::File::create(folder.path().join("default.orders.9-0")).unwrap();
        damaged.lock().unwrap();
        assert_eq!(resolve(&registry, "orders").await.unwrap(), ["127.0.0.1:1001"]);
        assert_eq!(registry.entries().unwrap().len(), 1);
        assert!(names(folder.path()).contains(&"notes.txt".to_owned()));
        assert_eq!(
            RuntimeRegistry::open(&own).unwrap_err().kind(),
            ErrorKind::Unavailable
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_registrations_at_once_all_appear() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Arc::new(RuntimeRegistry::open(folder.path()).unwrap());
        let each = (0..40).map(|number| {
            let registry = Arc::clone(&registry);
            tokio::spawn(async move {
                Resolver::register(&*registry, instance("orders", 1000 + number, &number.to_string()))
                    .await
                    .unwrap();
                assert!(registry.find(&target("orders")).unwrap().len() <= 40);
            })
        });
        for task in each.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        assert_eq!(registry.find(&target("orders")).unwrap().len(), 40);
    }

    #[tokio::test]
    async fn a_composite_answers_from_the_registry_before_mdns() {
        let folder = tempfile::tempdir().unwrap();
        let registry: Arc<dyn DynResolver> = Arc::new(RuntimeRegistry::open(folder.path()).unwrap());
        let Ok(mdns) = Mdns::open(MdnsOptions::new("test-host-f")) else {
            return;
        };
        let composite = Composite::new(vec![registry, Arc::new(mdns)]);
        let both = app_id("both");
        Resolver::register(&composite, instance(&both, 43001, "1"))
            .await
            .unwrap();
        assert_eq!(resolve(&composite, &both).await.unwrap(), ["127.0.0.1:43001"]);
        assert_eq!(
            resolve(&composite, &app_id("nobody")).await.unwrap_err().kind(),
            ErrorKind::NotFound
        );
        Resolver::close(&composite).await.unwrap();
        assert!(names(folder.path()).is_empty());
    }
}
