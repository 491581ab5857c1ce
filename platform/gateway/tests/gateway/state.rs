//! State by the gateway (G4).

use outrigger_platform_wire::virtufin::{
    DeleteStateRequest, GetAllStateRequest, GetStateRequest, RegisterKeysRequest, SaveStateRequest,
};
use serde_json::json;
use tonic::{Code, Status};

use crate::harness::Gateway;

fn save(key: &str, value: &str) -> SaveStateRequest {
    SaveStateRequest {
        service: "orders".to_owned(),
        key: key.to_owned(),
        value: value.to_owned(),
        ..SaveStateRequest::default()
    }
}

impl Gateway {
    async fn save(&self, request: SaveStateRequest) -> Result<String, Status> {
        let answer = self.state().save_state(request).await?.into_inner();
        assert!(answer.status.unwrap().success);
        Ok(answer.etag)
    }

    async fn read(&self, service: &str, key: &str) -> (String, String) {
        let request = GetStateRequest {
            service: service.to_owned(),
            key: key.to_owned(),
        };
        let answer = self.state().get_state(request).await.unwrap().into_inner();
        (answer.value, answer.etag)
    }

    async fn all(&self, service: &str) -> Vec<(String, String)> {
        let request = GetAllStateRequest {
            service: service.to_owned(),
        };
        let answer = self.state().get_all_state(request).await.unwrap().into_inner();
        answer.values.into_iter().collect()
    }

    async fn delete(&self, key: &str, etag: &str, include_value: bool) -> Result<(), Status> {
        let request = DeleteStateRequest {
            service: "orders".to_owned(),
            key: key.to_owned(),
            include_value,
            etag: etag.to_owned(),
        };
        self.state().delete_state(request).await.map(drop)
    }

    fn changes(&self) -> Vec<serde_json::Value> {
        let events = self.cluster.published("state-changes");
        events.iter().map(|event| event["data"].clone()).collect()
    }
}

#[tokio::test]
async fn a_save_answers_the_new_version_and_a_stale_one_conflicts() {
    let gateway = Gateway::start(json!([]), &[]).await;
    let first = gateway.save(save("a/b", "hello")).await.unwrap();
    assert_eq!(
        gateway.read("orders", "a/b").await,
        ("hello".to_owned(), first.clone())
    );
    let with = |value: &str, etag: &str| SaveStateRequest {
        etag: etag.to_owned(),
        ..save("a/b", value)
    };
    let second = gateway.save(with(r#"{"b":1,"a":[2]}"#, &first)).await.unwrap();
    assert_ne!(first, second);
    let status = gateway.save(with("other", &first)).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    let status = gateway.delete("a/b", &first, false).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    assert_eq!(
        gateway.read("orders", "a/b").await,
        (r#"{"a":[2],"b":1}"#.to_owned(), second.clone())
    );
    let status = gateway
        .save(SaveStateRequest {
            create_only: true,
            ..save("a/b", "new")
        })
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    gateway.delete("a/b", &second, false).await.unwrap();
    assert_eq!(
        gateway.read("orders", "a/b").await,
        (String::new(), String::new())
    );
    gateway
        .save(SaveStateRequest {
            create_only: true,
            ..save("a/b", "new")
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn over_http_a_conflict_is_409() {
    let gateway = Gateway::start(json!([]), &[]).await;
    let body = json!({"service": "orders", "key": "a/b", "value": "1"});
    let answer = gateway.send("POST", "/v1/state/save-state", Some(&body)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let etag = answer.json()["etag"].as_str().unwrap().to_owned();
    for path in ["/v1/state/orders/a/b", "/v1/state/orders/a%2Fb"] {
        assert_eq!(
            gateway.get(path).await.json(),
            json!({"key": "a/b", "value": "1", "etag": etag})
        );
    }
    let stale = json!({"service": "orders", "key": "a/b", "value": "2", "etag": "stale"});
    let answer = gateway.send("POST", "/v1/state/save-state", Some(&stale)).await;
    assert_eq!(answer.status, 409);
    assert_eq!(answer.json()["code"], 10);
    assert_eq!(
        gateway.get("/v1/state/orders").await.json(),
        json!({"values": {"a/b": "1"}})
    );
    assert_eq!(
        gateway
            .send("DELETE", "/v1/state/orders/a/b?include_value=true", None)
            .await
            .status,
        200
    );
    assert_eq!(
        gateway.get("/v1/state/orders").await.json(),
        json!({"values": {}})
    );
    assert_eq!(
        gateway.changes(),
        [
            json!({"service": "orders", "key": "a/b", "action": "save"}),
            json!({"service": "orders", "key": "a/b", "action": "delete", "value": 1}),
        ]
    );
}

#[tokio::test]
async fn services_do_not_see_each_others_keys() {
    let gateway = Gateway::start(json!([]), &[]).await;
    gateway.save(save("k", "mine")).await.unwrap();
    gateway
        .save(SaveStateRequest {
            service: "other".to_owned(),
            ..save("k", "theirs")
        })
        .await
        .unwrap();
    assert_eq!(gateway.read("orders", "k").await.0, "mine");
    assert_eq!(gateway.read("other", "k").await.0, "theirs");
    assert_eq!(gateway.all("orders").await, [("k".to_owned(), "mine".to_owned())]);
    let status = gateway
        .save(SaveStateRequest {
            service: "or/ders".to_owned(),
            ..save("k", "x")
        })
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn all_registered_keys_are_read_after_a_restart_too() {
    let file = json!([{"name": "orders", "state": {"keys": ["configured"]}}]);
    let gateway = Gateway::start(file.clone(), &[]).await;
    let request = RegisterKeysRequest {
        service: "orders".to_owned(),
        keys: vec!["registered".to_owned(), "empty".to_owned()],
    };
    gateway.state().register_keys(request).await.unwrap();
    for key in ["used", "registered", "gone"] {
        gateway.save(save(key, key)).await.unwrap();
    }
    // Written by somebody else.
    gateway
        .sidecar
        .client()
        .state("statestore")
        .set("orders/configured", "by hand")
        .await
        .unwrap();
    gateway.delete("gone", "", false).await.unwrap();
    let cluster = gateway.cluster.clone();
    gateway.stop().await;
    let gateway = Gateway::start_in(cluster, file, &[]).await;
    let own = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(
        gateway.all("orders").await,
        [
            own("configured", "by hand"),
            own("registered", "registered"),
            own("used", "used")
        ]
    );
}

#[tokio::test]
async fn changes_are_told_with_the_value_if_asked() {
    let gateway = Gateway::start(json!([]), &[]).await;
    gateway
        .save(SaveStateRequest {
            include_value: true,
            ..save("k", r#"{"a":1}"#)
        })
        .await
        .unwrap();
    gateway.save(save("k", "2")).await.unwrap();
    gateway.delete("k", "", true).await.unwrap();
    // Nobody has registered this one.
    gateway.delete("never", "", true).await.unwrap();
    assert_eq!(
        gateway.changes(),
        [
            json!({"service": "orders", "key": "k", "action": "save", "value": {"a": 1}}),
            json!({"service": "orders", "key": "k", "action": "save"}),
            json!({"service": "orders", "key": "k", "action": "delete", "value": 2}),
        ]
    );
}

#[tokio::test]
async fn a_change_that_cannot_be_told_does_not_fail_the_save() {
    let gateway = Gateway::start(json!([]), &[]).await;
    gateway.cluster.set_broker_down(true);
    let answer = gateway
        .state()
        .save_state(save("k", "1"))
        .await
        .unwrap()
        .into_inner();
    let status = answer.status.unwrap();
    assert!(status.success);
    assert!(status.message.contains("not told"), "{}", status.message);
    assert_eq!(gateway.read("orders", "k").await.0, "1");
}

#[tokio::test]
async fn of_many_writers_of_one_version_one_wins() {
    let gateway = Gateway::start(json!([]), &[]).await;
    let etag = gateway.save(save("k", "0")).await.unwrap();
    let writers = (0..20).map(|number| {
        gateway.save(SaveStateRequest {
            etag: etag.clone(),
            ..save("k", &format!("writer {number}"))
        })
    });
    let outcomes = futures::future::join_all(writers).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    // First uses at the same time all get into the record.
    let keys: Vec<String> = (0..20).map(|number| format!("k{number}")).collect();
    let saves = keys.iter().map(|key| gateway.save(save(key, "1")));
    for outcome in futures::future::join_all(saves).await {
        outcome.unwrap();
    }
    assert_eq!(gateway.all("orders").await.len(), 21);
}
