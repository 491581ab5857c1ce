//! State stores over the socket.

use super::*;

#[tokio::test]
async fn a_state_store_works_over_the_socket() {
    let folder = Folder::new();
    let _process = Process::start(
        &folder.socket("store"),
        Offer::State(outrigger_state::memory_registration()),
    );
    let store = open_state(&folder).await;
    let capabilities = store.capabilities();
    assert!(capabilities.etag && capabilities.transactional && capabilities.ttl);
    assert_eq!(store.transaction_limit().await, None);
    store.ping().await.unwrap();

    store
        .transact(vec![set("a", r#"{"n":1}"#, Expect::Absent)])
        .await
        .unwrap();
    assert_eq!(read(&store, "a").await.as_deref(), Some(&br#"{"n":1}"#[..]));
    assert_eq!(read(&store, "nothing").await, None);
    let refused = store
        .transact(vec![set("a", "2", Expect::Absent)])
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::EtagMismatch);
    let item = store
        .get(&"a".into(), &ReadOptions::default())
        .await
        .unwrap()
        .unwrap();
    let etag = item.etag.unwrap();
    store
        .transact(vec![set("a", r#"{"n":2}"#, Expect::Match(etag.clone()))])
        .await
        .unwrap();
    let stale = store
        .transact(vec![delete("a", Expect::Match(etag))])
        .await
        .unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::EtagMismatch);

    let each = store
        .apply_each(vec![set("b", "1", Expect::Any), set("c", "2", Expect::Any)])
        .await;
    assert!(each.iter().all(Result::is_ok));
    let keys = ["c".into(), "nothing".into(), "b".into()];
    let found = store.get_many(&keys, &ReadOptions::default()).await;
    let found: Vec<_> = found
        .into_iter()
        .map(|item| item.unwrap().map(|item| item.value.into_bytes()))
        .collect();
    assert_eq!(found, [Some("2".into()), None, Some("1".into())]);

    // All or nothing, with the etag error of the transaction.
    let failed = store
        .transact(vec![delete("b", Expect::Any), set("a", "3", Expect::Absent)])
        .await
        .unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::EtagMismatch);
    assert!(read(&store, "b").await.is_some());
    store
        .transact(vec![delete("b", Expect::Any), delete("c", Expect::Any)])
        .await
        .unwrap();
    assert!(read(&store, "b").await.is_none());

    let mut expiring = set("short", "1", Expect::Any);
    if let Operation::Set { ttl, .. } = &mut expiring {
        *ttl = Ttl::Seconds(100);
    }
    store.transact(vec![expiring]).await.unwrap();
    let item = store.get(&"short".into(), &ReadOptions::default()).await.unwrap();
    assert!(item.unwrap().expires.is_some());

    // The in-memory store does not search; its refusal comes back as the status it is.
    let query = Query::from_json(br#"{"filter":{"EQ":{"n":2}}}"#).unwrap();
    let refused = store.query(query, ReadOptions::default()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Status(12));

    store.close().await.unwrap();
    let closed = store.get(&"a".into(), &ReadOptions::default()).await.unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_store_is_reached_again_after_its_process_died() {
    let folder = Folder::new();
    let socket = folder.socket("store");
    let offer = Offer::State(outrigger_state::memory_registration());
    let process = Process::start(&socket, offer);
    let store = open_state(&folder).await;
    store.transact(vec![set("a", "1", Expect::Any)]).await.unwrap();
    process.kill();
    let options = ReadOptions::default();
    let down = eventually(|| async { store.get(&"a".into(), &options).await.err() }).await;
    assert!(matches!(
        down.kind(),
        ErrorKind::Unavailable | ErrorKind::Status(_)
    ));

    let _again = Process::start(&socket, offer);
    // Only an Init makes the new process answer; what was in memory is gone with the old one.
    let item = eventually(|| async { store.get(&"a".into(), &options).await.ok() }).await;
    assert!(item.is_none());
    store.transact(vec![set("a", "2", Expect::Any)]).await.unwrap();
    assert_eq!(read(&store, "a").await.as_deref(), Some(&b"2"[..]));
}
