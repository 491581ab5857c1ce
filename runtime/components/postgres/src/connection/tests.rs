use outrigger_component::{Host, Properties};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_postgres::config::{SslMode, TargetSessionAttrs};

use super::{ExecMode, Settings, target};
use crate::testing::Server;

fn settings(pairs: &[(&str, &str)]) -> Settings {
    Settings::from_properties(&Properties::from_pairs(pairs.iter().copied())).unwrap()
}

#[test]
fn pool_and_mode_are_taken_from_either_place() {
    let plain = settings(&[("url", "host=x")]);
    assert!(plain.pool.max >= 4 && plain.pool.min == 0 && plain.mode == ExecMode::Prepared);
    let text = "postgres://x/?pool_max_conns=7&pool_min_conns=2&pool_max_conn_idle_time=1m30s\
                &default_query_exec_mode=exec";
    let told = settings(&[("connectionString", text)]);
    assert_eq!((told.pool.max, told.pool.min), (7, 2));
    assert_eq!(told.pool.idle.as_secs(), 90);
    assert_eq!(told.mode, ExecMode::Unnamed);
    let fields = settings(&[
        ("connectionString", text),
        ("maxConns", "3"),
        ("connectionMaxIdleTime", "5s"),
        ("queryExecMode", "simple_protocol"),
        ("timeoutInSeconds", "7"),
    ]);
    assert_eq!((fields.pool.max, fields.pool.idle.as_secs()), (3, 5));
    assert_eq!((fields.mode, fields.timeout.as_secs()), (ExecMode::Simple, 7));
    // One connection is no wish upstream knows; it keeps its default.
    assert!(settings(&[("url", "host=x"), ("maxConns", "1")]).pool.max >= 4);
    for (name, value) in [
        ("pool_max_conns", "0"),
        ("pool_max_conns", "x"),
        ("pool_max_conn_lifetime", "x"),
    ] {
        let properties = Properties::from_pairs([("url", format!("host=x {name}={value}"))]);
        assert!(Settings::from_properties(&properties).is_err(), "{name}={value}");
    }
}

#[test]
fn secrets_are_not_printed() {
    let settings = settings(&[("url", "postgres://me:secret@x/y"), ("password", "hidden")]);
    let text = format!("{settings:?}");
    assert!(!text.contains("secret") && !text.contains("hidden"), "{text}");
}

#[tokio::test]
async fn fields_stand_before_the_connection_string() {
    let settings = settings(&[
        (
            "url",
            "postgres://me@one:1,two:2/x?search_path=a%20b&application_name=mine&sslmode=disable",
        ),
        ("user", "you"),
        ("password", "p"),
        ("database", "y"),
        ("port", "7"),
    ]);
    let (first, rest) = target::attempts(&settings.keywords, &Host::new("app", "/"))
        .await
        .unwrap();
    assert!(rest.is_empty());
    let config = first.config;
    assert_eq!(config.get_ports(), [7, 7]);
    assert_eq!((config.get_user(), config.get_dbname()), (Some("you"), Some("y")));
    assert_eq!(config.get_password(), Some(&b"p"[..]));
    assert_eq!(config.get_application_name(), Some("mine"));
    assert_eq!(config.get_options(), Some(r"-c search_path=a\ b"));
}

#[tokio::test]
async fn every_mode_of_encryption_has_its_ways() {
    for (text, modes) in [
        ("sslmode=disable", &[SslMode::Disable][..]),
        ("sslmode=allow", &[SslMode::Disable, SslMode::Require]),
        ("", &[SslMode::Prefer, SslMode::Disable]),
        ("sslmode=require", &[SslMode::Require]),
        ("sslmode=verify-full", &[SslMode::Require]),
    ] {
        let settings = settings(&[("url", &format!("host=x {text}"))]);
        let (first, rest) = target::attempts(&settings.keywords, &Host::new("app", "/"))
            .await
            .unwrap();
        let found: Vec<_> = std::iter::once(&first)
            .chain(&rest)
            .map(|way| way.config.get_ssl_mode())
            .collect();
        assert_eq!(found, modes, "{text}");
    }
    let settings = settings(&[(
        "url",
        "host=x sslmode=disable target_session_attrs=prefer-standby",
    )]);
    let (first, rest) = target::attempts(&settings.keywords, &Host::new("app", "/"))
        .await
        .unwrap();
    assert_eq!(
        first.config.get_target_session_attrs(),
        TargetSessionAttrs::ReadOnly
    );
    assert_eq!(rest[0].config.get_target_session_attrs(), TargetSessionAttrs::Any);
}

/// The first host of a list does not answer; the second is of an own server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_of_hosts_and_sockets_lead_to_a_server() {
    let Some(server) = Server::start("lists_of_hosts_and_sockets_lead_to_a_server") else {
        return;
    };
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = server.url();
    let port = url.rsplit_once(':').unwrap().1.split('/').next().unwrap();
    let folder = server.data().parent().unwrap().to_str().unwrap().to_owned();
    for text in [
        format!("host=127.0.0.1,127.0.0.1 port={nobody},{port} user=postgres dbname=postgres"),
        format!("host={folder} port={port} user=postgres dbname=postgres"),
        format!("hostaddr=127.0.0.1 port={port} user=postgres dbname=postgres sslmode=allow"),
    ] {
        let settings = settings(&[("url", &text), ("timeout", "10s")]);
        let database = crate::database::Database::open(&settings, &Host::new("app", "/"))
            .await
            .unwrap_or_else(|error| panic!("{text}: {}", error.chain()));
        database.ping().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_checked_as_asked() {
    let Some(server) = Server::start("certificates_are_checked_as_asked") else {
        return;
    };
    let issuer = || {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let (ca, other_ca) = (issuer(), issuer());
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .signed_by(&key, &ca)
        .unwrap();
    let certificate = server.file("server.crt", &certificate.pem());
    let key = server.file("server.key", &key.serialize_pem());
    server.configure(&format!(
        "ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\n",
        certificate.display(),
        key.display()
    ));
    // Unencrypted sessions are refused.
    std::fs::write(
        server.data().join("pg_hba.conf"),
        "hostssl all all 127.0.0.1/32 trust\nlocal all all trust\n",
    )
    .unwrap();
    server.configure("");
    let roots = server.file("root.crt", &ca.pem());
    let roots = roots.to_str().unwrap();
    let other_roots = other_ca.pem();
    let url = server.url();
    let port = url.rsplit_once(':').unwrap().1.split('/').next().unwrap();
    for (host, mode, trusted, opens) in [
        ("127.0.0.1", "disable", "", false),
        ("127.0.0.1", "allow", "", true),
        ("127.0.0.1", "prefer", "", true),
        ("127.0.0.1", "require", "", true),
        ("127.0.0.1", "require", roots, true),
        ("127.0.0.1", "require", &*other_roots, false),
        ("127.0.0.1", "verify-ca", roots, true),
        ("127.0.0.1", "verify-ca", "", false),
        ("127.0.0.1", "verify-full", roots, false),
        ("localhost", "verify-full", roots, true),
        ("localhost", "verify-full", &*other_roots, false),
    ] {
        let text = format!("host={host} port={port} user=postgres dbname=postgres sslmode={mode}");
        let settings = settings(&[("url", &text), ("sslRootCert", trusted), ("timeout", "10s")]);
        let opened = crate::database::Database::open(&settings, &Host::new("app", "/")).await;
        assert_eq!(opened.is_ok(), opens, "{host} {mode} {opened:?}");
    }
}
