//! What goes wrong, and what it costs.

use outrigger_component::{ErrorKind, Retry};
use outrigger_state::{ReadOptions, suite::set};
use outrigger_types::StateKey;

use super::{open, text, try_open};
use crate::testing::{self, Server};

#[tokio::test]
async fn wrong_metadata_is_refused_before_anything_is_opened() {
    for (pairs, text) in [
        (&[][..], "failed to build connection string"),
        (
            &[("url", "host=x"), ("timeout", "10ms")],
            "invalid value for 'timeout': must be greater than 1s",
        ),
        (
            &[("url", "host=x"), ("queryExecMode", "magic")],
            "invalid queryExecMode metadata value: magic",
        ),
        (
            &[("url", "host=x sslmode=maybe")],
            "failed to configure TLS: sslmode \"maybe\" is invalid",
        ),
        (
            &[("url", "host=x"), ("tableName", "state; DROP TABLE state")],
            "invalid value for 'tableName': \"state; DROP TABLE state\" is not a table name",
        ),
        (
            &[("url", "host=x"), ("useAzureAD", "true")],
            "authentication with Azure AD (useAzureAD) is not supported; use a user and a password or a client certificate",
        ),
        (
            &[("url", "host=x"), ("useAWSIAM", "true")],
            "authentication with AWS IAM (useAWSIAM) is not supported; use a user and a password or a client certificate",
        ),
        (
            &[("url", "postgres://me:secret@x/?service=y")],
            "the connection string's \"service\" is not supported",
        ),
    ] {
        for version in ["v1", "v2"] {
            if version == "v2" && pairs.iter().any(|(name, _)| *name == "tableName") {
                continue;
            }
            let error = try_open(version, pairs).await.unwrap_err();
            assert_eq!(
                (error.kind(), error.chain().as_str()),
                (ErrorKind::Configuration, text)
            );
        }
    }
}

#[tokio::test]
async fn what_stands_in_the_way_is_told_apart() {
    // Nobody listens on a port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let nobody = format!("postgres://me:secret@127.0.0.1:{port}/x");
    let error = try_open("v1", &[("connectionString", &nobody)])
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.retry()),
        (ErrorKind::Unavailable, Retry::Transient)
    );
    assert!(!error.chain().contains("secret"), "{}", error.chain());
    let Some(url) = testing::url("what_stands_in_the_way_is_told_apart") else {
        return;
    };
    let error = try_open(
        "v1",
        &[("connectionString", &url), ("database", "no_such_database")],
    )
    .await
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{}", error.chain());
    assert!(error.chain().contains("SQLSTATE 3D000"), "{}", error.chain());
    // A value that the column cannot hold spoils nobody else's.
    let here = testing::schema(&url, "refusals").await;
    let store = open("v1", &[("connectionString", &here), ("maxConns", "2")]).await;
    let bad = set("bad", "\"\\u0000\"");
    let error = store.transact(vec![bad.clone()]).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retry()),
        (ErrorKind::InvalidRequest, Retry::Permanent)
    );
    let answers = store.apply_each(vec![set("a", "1"), bad, set("b", "2")]).await;
    assert!(answers[0].is_ok() && answers[2].is_ok());
    assert_eq!(answers[1].as_ref().unwrap_err().kind(), ErrorKind::InvalidRequest);
    testing::drop_schema(&url, "refusals").await;
}

/// A server that goes and comes back costs errors that may pass, and nothing that was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_server_is_survived() {
    let Some(server) = Server::start("a_restart_of_the_server_is_survived") else {
        return;
    };
    for version in ["v1", "v2"] {
        let pairs = [
            ("connectionString", &*server.url()),
            ("tablePrefix", "two_"),
            ("timeout", "5s"),
        ];
        let store = open(version, &pairs).await;
        store.transact(vec![set("before", "1")]).await.unwrap();
        server.down();
        let keys: Vec<StateKey> = vec!["before".into()];
        let answers = store.get_many(&keys, &ReadOptions::default()).await;
        for error in [
            store
                .get(&"before".into(), &ReadOptions::default())
                .await
                .unwrap_err(),
            store.transact(vec![set("during", "1")]).await.unwrap_err(),
            store
                .transact(vec![set("during", "1"), set("too", "1")])
                .await
                .unwrap_err(),
            answers.into_iter().next().unwrap().unwrap_err(),
            store.ping().await.unwrap_err(),
        ] {
            assert_eq!(
                (error.kind(), error.retry()),
                (ErrorKind::Unavailable, Retry::Transient),
                "{}",
                error.chain()
            );
        }
        server.up();
        assert_eq!(text(&store, "before").await.as_deref(), Some("1"));
        store.transact(vec![set("after", "1")]).await.unwrap();
        // Also when the connections were in the pool all the time.
        server.down();
        server.up();
        assert_eq!(text(&store, "after").await.as_deref(), Some("1"));
        store.close().await.unwrap();
    }
}

/// Rows somebody else has locked hold up those who want them, within their time, and nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_row_holds_up_its_own_writers_only() {
    let Some(url) = testing::url("a_locked_row_holds_up_its_own_writers_only") else {
        return;
    };
    let here = testing::schema(&url, "locked").await;
    let store = open("v1", &[("connectionString", &here), ("timeout", "1s")]).await;
    store.transact(vec![set("locked", "1")]).await.unwrap();
    let peer = testing::peer(&here).await;
    peer.batch_execute("BEGIN; SELECT * FROM state WHERE key = 'locked' FOR UPDATE")
        .await
        .unwrap();
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.transact(vec![set("locked", "2")]).await }
    });
    for number in 0..20 {
        store
            .transact(vec![set(&format!("free-{number}"), "1")])
            .await
            .unwrap();
    }
    assert_eq!(text(&store, "locked").await.as_deref(), Some("1"));
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    peer.batch_execute("ROLLBACK").await.unwrap();
    store.transact(vec![set("locked", "3")]).await.unwrap();
    assert_eq!(text(&store, "locked").await.as_deref(), Some("3"));
    testing::drop_schema(&url, "locked").await;
}
