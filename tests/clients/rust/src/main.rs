//! The Rust SDK of Dapr, unchanged, beside two sidecars that `cargo xtask clients` starts.
//!
//! Building blocks that the SDK has no function for are called by the generated client that it publishes.

mod apps;
mod cases;

use std::{collections::HashMap, env, process::ExitCode};

use dapr::{
    client::{
        Client, ClientOptions, ConversationInputBuilder, ConversationRequestBuilder, DecryptRequestOptions,
        EncryptRequestOptions, Etag, ReaderStream, StateOptions, TonicClientWithAuth,
    },
    dapr::proto::{
        common::v1::StateItem,
        runtime::v1::{
            BulkPublishRequest, BulkPublishRequestEntry, ExecuteStateTransactionRequest, GetBulkStateRequest,
            ShutdownRequest, TransactionalStateOperation, TryLockRequest, UnlockRequest,
            dapr_client::DaprClient,
        },
    },
};
use prost_types::Any;
use tonic::transport::Channel;

use apps::App;
use cases::{End, Outcome, Tally, ensure, equal, eventually, refused};

type Sdk = Client<TonicClientWithAuth>;
type Raw = DaprClient<Channel>;

const FIRST_WRITE: Option<StateOptions> = Some(StateOptions {
    concurrency: 1,
    consistency: 2,
});

fn variable(name: &str) -> Result<String, End> {
    env::var(name).map_err(|error| End::Failed(format!("{name}: {error}")))
}

fn port(name: &str) -> Result<u16, End> {
    let text = variable(name)?;
    text.parse()
        .map_err(|error| End::Failed(format!("{name}: {error}")))
}

async fn sdk(port: u16) -> Result<Sdk, End> {
    let options = ClientOptions::new().with_address(format!("http://127.0.0.1:{port}"));
    Ok(Sdk::from_options(options).await?)
}

async fn raw(port: u16) -> Result<Raw, End> {
    Raw::connect(format!("http://127.0.0.1:{port}"))
        .await
        .map_err(|error| End::Failed(error.to_string()))
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(End::Failed(reason) | End::Skipped(reason)) => {
            eprintln!("{reason}");
            ExitCode::from(2)
        }
    }
}

async fn run() -> Result<bool, End> {
    let (grpc, two_grpc) = (port("DAPR_GRPC_PORT")?, port("TWO_GRPC_PORT")?);
    let (one_id, two_id) = (variable("APP_ID")?, variable("TWO_APP_ID")?);
    let one_app = App::start("one", port("APP_PORT")?);
    let two_app = App::start("two", port("TWO_APP_PORT")?);
    let mut tally = Tally::default();
    tally
        .case("health.wait", async {
            for port in [grpc, two_grpc] {
                eventually("the sidecar answers", async || {
                    Ok(!sdk(port).await?.get_metadata().await?.id.is_empty())
                })
                .await?;
            }
            Ok(())
        })
        .await;
    let (mut one, mut two, mut plain) = (sdk(grpc).await?, sdk(two_grpc).await?, raw(grpc).await?);

    state(&mut tally, &mut one, &mut plain).await;
    events(&mut tally, (&mut one, &one_app), (&mut two, &two_app), &mut plain).await;
    for (name, source, target, app) in [
        ("invoke.one-to-two", grpc, &two_id, "two"),
        ("invoke.two-to-one", two_grpc, &one_id, "one"),
        ("invoke.one-to-itself", grpc, &one_id, "one"),
    ] {
        tally.case(name, invoked(source, target, app)).await;
    }
    tally
        .case("invoke.unknown-app", async {
            refused(
                one.invoke_service("no-such-app", "echo", None).await,
                &["resolve", "find", "no-such-app"],
            )
        })
        .await;
    others(&mut tally, &mut one, &one_id).await;
    tally.case("configuration.get", configuration_get(&mut one)).await;
    tally
        .case(
            "configuration.subscribe-unsubscribe",
            configuration_subscribe(&mut one),
        )
        .await;
    for (algorithm, key) in [("RSA-OAEP-256", "rsa.pem"), ("A256KW", "aes.key")] {
        for cipher in ["aes-gcm", "chacha20-poly1305"] {
            tally
                .case(
                    &format!("crypto.{algorithm}.{cipher}"),
                    crypto(&mut one, algorithm, key, cipher),
                )
                .await;
        }
    }
    tally.case("lock.try-unlock", lock(&mut one, &mut plain)).await;
    tally
        .case("shutdown", async {
            plain.shutdown(ShutdownRequest {}).await?;
            eventually("the end of the sidecar", async || Ok(raw(grpc).await.is_err())).await
        })
        .await;
    Ok(tally.finish())
}

async fn state(tally: &mut Tally, one: &mut Sdk, plain: &mut Raw) {
    tally
        .case("state.save-get-delete", async {
            one.save_state("state", "a", b"value".to_vec(), None, None, None)
                .await?;
            let got = one.get_state("state", "a", None).await?;
            equal(got.data.as_slice(), b"value")?;
            ensure(!got.etag.is_empty(), "no etag")?;
            one.delete_state("state", "a", None).await?;
            equal(one.get_state("state", "a", None).await?.data.as_slice(), b"")
        })
        .await;
    tally
        .case("state.bulk-save-get-delete", async {
            one.save_bulk_states(
                "state",
                [("b1", b"1".to_vec()).into(), ("b2", b"2".to_vec()).into()],
            )
            .await?;
            let request = GetBulkStateRequest {
                store_name: "state".to_owned(),
                keys: ["b1", "b2", "b3"].map(str::to_owned).to_vec(),
                parallelism: 2,
                metadata: HashMap::new(),
            };
            let items = plain.get_bulk_state(request).await?.into_inner().items;
            let found: HashMap<_, _> = items.iter().map(|item| (&*item.key, &*item.data)).collect();
            equal(
                found,
                HashMap::from([("b1", &b"1"[..]), ("b2", b"2"), ("b3", b"")]),
            )?;
            one.delete_bulk_state("state", [("b1", vec![]), ("b2", vec![])])
                .await?;
            equal(one.get_state("state", "b2", None).await?.data.as_slice(), b"")
        })
        .await;
    tally
        .case("state.etag-conflict", async {
            one.save_state("state", "tagged", b"1".to_vec(), None, None, None)
                .await?;
            let value = one.get_state("state", "tagged", None).await?.etag;
            let tag = Some(Etag { value });
            one.save_state("state", "tagged", b"2".to_vec(), tag.clone(), None, FIRST_WRITE)
                .await?;
            let stale = one
                .save_state("state", "tagged", b"3".to_vec(), tag, None, FIRST_WRITE)
                .await;
            refused(stale, &["etag", "Aborted"])?;
            equal(
                one.get_state("state", "tagged", None).await?.data.as_slice(),
                b"2",
            )
        })
        .await;
    tally
        .case("state.transaction", async {
            one.save_state("state", "gone", b"x".to_vec(), None, None, None)
                .await?;
            let operation = |kind: &str, key: &str, value: &[u8]| TransactionalStateOperation {
                operation_type: kind.to_owned(),
                request: Some(StateItem::from((key, value.to_vec()))),
            };
            let request = ExecuteStateTransactionRequest {
                store_name: "state".to_owned(),
                operations: vec![
                    operation("upsert", "t", b"kept"),
                    operation("delete", "gone", b""),
                ],
                metadata: HashMap::new(),
            };
            plain.execute_state_transaction(request).await?;
            equal(one.get_state("state", "t", None).await?.data.as_slice(), b"kept")?;
            equal(one.get_state("state", "gone", None).await?.data.as_slice(), b"")
        })
        .await;
    tally
        .case("state.ttl", async {
            let brief = Some(HashMap::from([("ttlInSeconds".to_owned(), "1".to_owned())]));
            one.save_state("state", "brief", b"1".to_vec(), None, brief, None)
                .await?;
            equal(one.get_state("state", "brief", None).await?.data.as_slice(), b"1")?;
            eventually("the expiry", async || {
                Ok(one.get_state("state", "brief", None).await?.data.is_empty())
            })
            .await
        })
        .await;
    tally
        .case("state.query-is-refused", async {
            let answer = one.query_state_alpha1("state", serde_json::json!({}), None).await;
            refused(answer, &["not support", "Unimplemented", "Internal"])
        })
        .await;
    tally
        .case("state.unknown-store", async {
            refused(one.get_state("nowhere", "a", None).await, &["nowhere"])
        })
        .await;
}

async fn publish(client: &mut Sdk, topic: &str, text: &str) -> Outcome {
    let data = text.as_bytes().to_vec();
    Ok(client
        .publish_event("pubsub", topic, "text/plain", data, None)
        .await?)
}

async fn events(tally: &mut Tally, one: (&mut Sdk, &App), two: (&mut Sdk, &App), plain: &mut Raw) {
    let (one, two) = (one, two);
    for (name, (client, app)) in [("one", (&mut *one.0, one.1)), ("two", (&mut *two.0, two.1))] {
        tally
            .case(&format!("publish.subscribe-app-{name}"), async {
                publish(client, "orders", "an order").await?;
                eventually("the event", async || Ok(app.arrived("orders") == ["an order"])).await
            })
            .await;
        tally
            .case(&format!("subscribe.retry-app-{name}"), async {
                publish(client, "unsteady", "again").await?;
                eventually("a second delivery", async || {
                    Ok(app.arrived("unsteady").len() >= 2)
                })
                .await
            })
            .await;
        tally
            .case(&format!("subscribe.dead-letter-app-{name}"), async {
                publish(client, "broken", "bad").await?;
                eventually("the dead letter", async || {
                    Ok(!app.arrived("graveyard").is_empty())
                })
                .await
            })
            .await;
        tally
            .case(&format!("binding.input-app-{name}"), async {
                eventually("a tick", async || Ok(!app.arrived("tick").is_empty())).await
            })
            .await;
    }
    tally
        .case("publish.bulk-to-bulk-subscriber", async {
            let entries = (0..5).map(|n| BulkPublishRequestEntry {
                entry_id: n.to_string(),
                event: format!("event {n}").into_bytes(),
                content_type: "text/plain".to_owned(),
                metadata: HashMap::new(),
            });
            let request = BulkPublishRequest {
                pubsub_name: "pubsub".to_owned(),
                topic: "heaps".to_owned(),
                entries: entries.collect(),
                metadata: HashMap::new(),
            };
            let answer = plain.bulk_publish_event(request).await?.into_inner();
            ensure(
                answer.failed_entries.is_empty(),
                format!("{:?}", answer.failed_entries),
            )?;
            eventually("five events", async || {
                let mut seen = one.1.arrived("heaps");
                seen.sort();
                Ok(seen == ["event 0", "event 1", "event 2", "event 3", "event 4"])
            })
            .await
        })
        .await;
    tally
        .case("publish.unknown-pubsub", async {
            let answer = one
                .0
                .publish_event("nowhere", "orders", "text/plain", b"x".to_vec(), None)
                .await;
            refused(answer, &["nowhere"])
        })
        .await;
}

async fn invoked(source: u16, target: &str, app: &str) -> Outcome {
    let mut client = sdk(source).await?;
    // The other's name may still be on its way.
    eventually("the answer", async || {
        let data = Any {
            value: b"hello".to_vec(),
            ..Any::default()
        };
        let answer = client.invoke_service(target, "echo", Some(data)).await?;
        let text = String::from_utf8_lossy(&answer.data.unwrap_or_default().value).into_owned();
        equal(text, format!("{app} heard hello"))?;
        Ok(true)
    })
    .await
}

async fn others(tally: &mut Tally, one: &mut Sdk, id: &str) {
    tally
        .case("binding.output", async {
            let file = || Some(HashMap::from([("fileName".to_owned(), "rust.txt".to_owned())]));
            one.invoke_binding("files", b"in a file".to_vec(), "create", file())
                .await?;
            let got = one.invoke_binding("files", vec![], "get", file()).await?;
            equal(got.data.as_slice(), b"in a file")?;
            one.invoke_binding("files", vec![], "delete", file()).await?;
            refused(
                one.invoke_binding("files", vec![], "get", file()).await,
                &["not found"],
            )
        })
        .await;
    tally
        .case("secret.get", async {
            let data = one.get_secret("secrets", "greeting").await?.data;
            equal(data.get("greeting").map(String::as_str), Some("hello"))?;
            refused(one.get_secret("secrets", "absent").await, &["absent"])
        })
        .await;
    tally
        .case("secret.bulk", async {
            let data = one.get_bulk_secret("secrets", None).await?.data;
            equal(data.len(), 2)?;
            equal(data["second"].secrets["second"].as_str(), "too")
        })
        .await;
    tally
        .case("metadata.get-set", async {
            one.set_metadata("colour", "teal").await?;
            let told = one.get_metadata().await?;
            equal(told.id.as_str(), id)?;
            equal(
                told.extended_metadata.get("colour").map(String::as_str),
                Some("teal"),
            )?;
            ensure(
                told.registered_components
                    .iter()
                    .any(|found| found.r#type == "state.sqlite"),
                format!("{:?}", told.registered_components),
            )
        })
        .await;
    tally
        .case("conversation.alpha1", async {
            let input = ConversationInputBuilder::new("hello").build();
            let request = ConversationRequestBuilder::new("echo", vec![input]).build();
            let answer = one.converse_alpha1(request).await?;
            equal(answer.outputs[0].result.as_str(), "hello")
        })
        .await;
}

async fn configure(key: &str, value: &str) -> Outcome {
    let written = tokio::process::Command::new("python3")
        .arg(variable("SET_CONFIGURATION")?)
        .args([key, value])
        .status()
        .await;
    match written {
        Ok(status) => ensure(status.success(), "the configuration cannot be written"),
        Err(error) => Err(End::Skipped(format!(
            "python3 is not here to write the configuration: {error}"
        ))),
    }
}

async fn configured(one: &mut Sdk, key: &str) -> Result<Option<String>, End> {
    let mut items = one
        .get_configuration("configuration", vec![key], None)
        .await?
        .items;
    Ok(items.remove(key).map(|item| item.value))
}

async fn configuration_get(one: &mut Sdk) -> Outcome {
    configure("rust-colour", "red").await?;
    eventually("the value", async || {
        Ok(configured(one, "rust-colour").await?.as_deref() == Some("red"))
    })
    .await
}

async fn configuration_subscribe(one: &mut Sdk) -> Outcome {
    configure("rust-colour", "red").await?;
    let mut stream = one
        .subscribe_configuration("configuration", vec!["rust-colour"], None)
        .await?;
    let first = stream
        .message()
        .await?
        .ok_or_else(|| End::Failed("no first message".to_owned()))?;
    configure("rust-colour", "green").await?;
    while let Some(update) = stream.message().await? {
        if update
            .items
            .get("rust-colour")
            .is_some_and(|item| item.value == "green")
        {
            break;
        }
    }
    let answer = one.unsubscribe_configuration("configuration", &first.id).await?;
    ensure(answer.ok, answer.message)
}

async fn crypto(one: &mut Sdk, algorithm: &str, key: &str, cipher: &str) -> Outcome {
    // One read of the SDK, which numbers every part 0: no sidecar takes a second one, and the SDK drops that error.
    let plain: Vec<u8> = (0..4_000_u32).map(|n| (n % 251) as u8).collect();
    let options = EncryptRequestOptions {
        component_name: "keys".to_owned(),
        key_name: key.to_owned(),
        key_wrap_algorithm: algorithm.to_owned(),
        data_encryption_cipher: cipher.to_owned(),
        ..EncryptRequestOptions::default()
    };
    let sealed = one.encrypt(ReaderStream::new(plain.as_slice()), options).await?;
    let head = sealed.first().map(|part| part.data.clone()).unwrap_or_default();
    ensure(head.starts_with(b"dapr.io/enc/v1\n"), "another format")?;
    let options = DecryptRequestOptions {
        component_name: "keys".to_owned(),
        key_name: key.to_owned(),
    };
    ensure(
        one.decrypt(sealed, options).await? == plain,
        "another text came back",
    )
}

async fn lock(one: &mut Sdk, plain: &mut Raw) -> Outcome {
    let components = one.get_metadata().await?.registered_components;
    if !components.iter().any(|component| component.name == "lock") {
        return Err(End::Skipped("this sidecar has no component lock".to_owned()));
    }
    let wanted = |owner: &str| TryLockRequest {
        store_name: "lock".to_owned(),
        resource_id: "rust-thing".to_owned(),
        lock_owner: owner.to_owned(),
        expiry_in_seconds: 30,
    };
    let given_up = |owner: &str| UnlockRequest {
        store_name: "lock".to_owned(),
        resource_id: "rust-thing".to_owned(),
        lock_owner: owner.to_owned(),
    };
    ensure(
        plain.try_lock_alpha1(wanted("me")).await?.into_inner().success,
        "not locked",
    )?;
    ensure(
        !plain.try_lock_alpha1(wanted("you")).await?.into_inner().success,
        "locked twice",
    )?;
    // 0 freed, 1 there is none, 2 it is another's.
    for (owner, status) in [("you", 2), ("me", 0), ("me", 1)] {
        equal(
            plain.unlock_alpha1(given_up(owner)).await?.into_inner().status,
            status,
        )?;
    }
    Ok(())
}
