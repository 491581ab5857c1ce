//! Clusters and Sentinel, on servers of the tests' own.

use std::{sync::Arc, time::Duration};

use outrigger_component::{Host, Metadata, Properties, Spec};
use outrigger_configuration::{DynConfigurationStore, Items, UpdateHandler};
use outrigger_pubsub::{
    Outgoing, SharedPubSub, SubscribeRequest,
    suite::{self, Promises, Recorder},
};
use outrigger_state::{DynStateStore, KeyPattern, ReadOptions, suite::set};
use tempfile::TempDir;

use crate::testing::{Own, Raw};

const PATIENCE: Duration = Duration::from_secs(60);

fn spec(kind: &str, pairs: &[(&str, &str)]) -> Spec {
    Spec {
        name: "redis".into(),
        type_name: kind.into(),
        version: String::new(),
        properties: Properties::from_pairs(pairs.iter().copied()),
    }
}

async fn state(pairs: &[(&str, &str)]) -> Arc<dyn DynStateStore> {
    let open = (crate::state::registration().validate)(&spec("state.redis", pairs)).unwrap();
    open.run(Host::new("app", ".")).await.unwrap()
}

async fn pubsub(pairs: &[(&str, &str)]) -> SharedPubSub {
    let open = (crate::pubsub::registration().validate)(&spec("pubsub.redis", pairs)).unwrap();
    open.run(Host::new("app", ".")).await.unwrap()
}

async fn configuration(pairs: &[(&str, &str)]) -> Arc<dyn DynConfigurationStore> {
    let open = (crate::configuration::registration().validate)(&spec("configuration.redis", pairs)).unwrap();
    open.run(Host::new("app", ".")).await.unwrap()
}

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let reached = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, reached).await.is_ok(), "{what}");
}

/// Three primaries without replicas.
async fn cluster(test: &str, folder: &TempDir) -> Option<[Own; 3]> {
    let mut nodes = Vec::new();
    for number in 0..3 {
        let place = folder.path().join(number.to_string());
        std::fs::create_dir(&place).unwrap();
        nodes.push(Own::start(test, &place, &["--cluster-enabled", "yes"]).await?);
    }
    let nodes: [Own; 3] = nodes.try_into().unwrap();
    for (node, (from, to)) in nodes
        .iter()
        .zip([("0", "5460"), ("5461", "10922"), ("10923", "16383")])
    {
        let raw = Raw::open(&node.address, 0).await;
        raw.run(&["CLUSTER", "ADDSLOTSRANGE", from, to]).await;
        let (host, port) = nodes[0].address.split_once(':').unwrap();
        raw.run(&["CLUSTER", "MEET", host, port]).await;
    }
    until("the cluster forms", async || {
        for node in &nodes {
            let info = Raw::open(&node.address, 0)
                .await
                .texts(&["CLUSTER", "INFO"])
                .await;
            if !info[0].contains("cluster_state:ok") || !info[0].contains("cluster_known_nodes:3") {
                return false;
            }
        }
        true
    })
    .await;
    Some(nodes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_serves_every_block() {
    let folder = tempfile::tempdir().unwrap();
    let Some(nodes) = cluster("redisType cluster", &folder).await else {
        return;
    };
    let hosts = format!("{}, {}", nodes[0].address, nodes[1].address);
    let pairs = [("redisHost", &*hosts), ("redisType", "cluster"), ("redisDB", "0")];

    let store = state(&pairs).await;
    let keys: Vec<String> = (0..30).map(|number| format!("key-{number:02}")).collect();
    let written = store
        .apply_each(keys.iter().map(|key| set(key, "1")).collect())
        .await;
    assert!(written.iter().all(Result::is_ok), "{written:?}");
    let names: Vec<_> = keys.iter().map(|key| key.as_str().into()).collect();
    let read = store.get_many(&names, &ReadOptions::default()).await;
    assert!(read.iter().all(|item| item.as_ref().unwrap().is_some()));
    // One transaction over all slots answers in the order of its operations.
    let etags = store
        .transact(keys.iter().map(|key| set(key, "2")).collect())
        .await
        .unwrap();
    assert!(etags.iter().all(|etag| etag.as_ref().unwrap().as_str() == "2"));
    let pattern = KeyPattern {
        like: "key-%".into(),
        page_size: Some(20),
        token: None,
    };
    let page = store.keys(pattern).await.unwrap();
    let found: Vec<_> = page.keys.iter().map(|key| key.as_str().to_owned()).collect();
    assert_eq!(found, keys[..20], "keys of all nodes, in order");

    let mut quick = pairs.to_vec();
    quick.extend([("processingTimeout", "1s"), ("redeliverInterval", "50")]);
    let broker = pubsub(&quick).await;
    let promises = Promises {
        redelivers: true,
        competes: true,
        keeps: true,
        ordered_keys: false,
        concurrency: Some(10),
    };
    suite::run(|| async { broker.clone() }, promises).await;

    let settings = configuration(&pairs).await;
    let (sender, mut updates) = tokio::sync::mpsc::unbounded_channel();
    struct Channel(tokio::sync::mpsc::UnboundedSender<Items>);
    impl UpdateHandler for Channel {
        fn handle(&self, items: Items) -> futures::future::BoxFuture<'_, ()> {
            self.0.send(items).unwrap();
            Box::pin(std::future::ready(()))
        }
    }
    // Enough keys that every node has some.
    let watched: Vec<String> = (0..12).map(|number| format!("setting-{number}")).collect();
    let watching = settings
        .subscribe(watched.clone(), Metadata::new(), Arc::new(Channel(sender)))
        .await
        .unwrap();
    let writer = state(&pairs).await;
    drop(writer);
    for key in &watched {
        // Written on the node that has the key.
        for node in &nodes {
            let raw = Raw::open(&node.address, 0).await;
            let mut command = redis::cmd("SET");
            command.arg(key).arg("1||v");
            if raw
                .0
                .raw(&command, crate::link::Safety::Repeatable)
                .await
                .unwrap()
                .is_ok()
            {
                break;
            }
        }
        let update = tokio::time::timeout(PATIENCE, updates.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(update[key].version, "v");
    }
    assert_eq!(
        settings.get(&[], &Metadata::new()).await.unwrap().len(),
        watched.len()
    );
    watching.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinel_names_the_next_master() {
    let test = "failover by Sentinel";
    let folder = tempfile::tempdir().unwrap();
    let places = ["master", "replica", "sentinel"].map(|name| folder.path().join(name));
    for place in &places {
        std::fs::create_dir(place).unwrap();
    }
    let Some(mut master) = Own::start(test, &places[0], &[]).await else {
        return;
    };
    let (host, port) = master
        .address
        .clone()
        .split_once(':')
        .map(|(host, port)| (host.to_owned(), port.to_owned()))
        .unwrap();
    let replica = Own::start(test, &places[1], &["--replicaof", &format!("{host} {port}")])
        .await
        .unwrap();
    let file = places[2].join("sentinel.conf");
    std::fs::write(
        &file,
        format!(
            "sentinel monitor mymaster {host} {port} 1\nsentinel down-after-milliseconds mymaster 500\nsentinel \
             failover-timeout mymaster 5000\n"
        ),
    )
    .unwrap();
    let sentinel = Own::start_sentinel(&places[2], &file).await.unwrap();
    let watcher = Raw::open(&sentinel.address, 0).await;
    until("Sentinel knows the replica", async || {
        watcher
            .texts(&["SENTINEL", "MASTER", "mymaster"])
            .await
            .windows(2)
            .any(|pair| pair == ["num-slaves", "1"])
    })
    .await;
    let pairs = [
        ("redisHost", &*sentinel.address),
        ("failover", "true"),
        ("sentinelMasterName", "mymaster"),
        ("redisMaxRetries", "100"),
        ("processingTimeout", "2s"),
        ("redeliverInterval", "100"),
    ];
    let (store, broker) = (state(&pairs).await, pubsub(&pairs).await);
    store.transact(vec![set("k", "1")]).await.unwrap();
    let recorder = Recorder::new();
    let request = SubscribeRequest {
        topic: "failover".into(),
        group: "app".to_owned(),
        metadata: Metadata::new(),
        bulk: None,
    };
    let subscription = broker.subscribe(request, recorder.clone()).await.unwrap();
    let message = |text: &'static str| Outgoing {
        topic: "failover".into(),
        data: text.into(),
        content_type: None,
        metadata: Metadata::new(),
    };
    broker.publish(message("before")).await.unwrap();
    recorder.wait_for(1).await;
    until("the replica has it", async || {
        let raw = Raw::open(&replica.address, 0).await;
        raw.texts(&["EXISTS", "k", "failover"]).await == ["2"]
    })
    .await;
    master.kill();
    until("writes go to the new master", async || {
        store.transact(vec![set("k", "2")]).await.is_ok()
    })
    .await;
    until("events too", async || {
        broker.publish(message("after")).await.is_ok()
    })
    .await;
    until("and arrive", async || {
        recorder.texts().contains(&"after".to_owned())
    })
    .await;
    subscription.close().await;
    let raw = Raw::open(&replica.address, 0).await;
    assert_eq!(raw.texts(&["HGET", "k", "data"]).await, ["2"]);
}
