use outrigger_bindings::{InvokeRequest, OutputBinding};

use super::RedisBinding;
use crate::{
    settings::{Purpose, Settings},
    testing::{Raw, properties, server},
};

fn request(operation: &str, data: &'static str, pairs: &[(&str, &str)]) -> InvokeRequest {
    InvokeRequest {
        data: data.into(),
        operation: operation.to_owned(),
        metadata: pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    }
}

#[tokio::test]
async fn keys_are_made_read_counted_and_deleted() {
    let Some(server) = server("bindings.redis") else {
        return;
    };
    let raw = Raw::emptied(&server, 11).await;
    let settings = Settings::parse(&properties(&server, 11, &[]), Purpose::Binding).unwrap();
    let binding = RedisBinding::open(settings).await.unwrap();
    let run = async |operation: &str, data, pairs: &[(&str, &str)]| {
        let answer = OutputBinding::invoke(&binding, request(operation, data, pairs)).await;
        answer.map(|answer| answer.and_then(|answer| answer.data))
    };
    let key = ("key", "k");
    assert_eq!(
        run("create", "v", &[key, ("ttlInSeconds", "100")]).await.unwrap(),
        None
    );
    assert_ne!(raw.texts(&["TTL", "k"]).await, ["-1"]);
    assert_eq!(run("get", "", &[key]).await.unwrap().unwrap(), "v");
    assert_eq!(
        run("get", "", &[key, ("delete", "true")]).await.unwrap().unwrap(),
        "v"
    );
    assert_eq!(run("get", "", &[key]).await.unwrap(), None);
    run("increment", "", &[key]).await.unwrap();
    run("increment", "", &[key]).await.unwrap();
    assert_eq!(raw.texts(&["GET", "k"]).await, ["2"]);
    run("delete", "", &[key]).await.unwrap();
    assert_eq!(raw.texts(&["EXISTS", "k"]).await, ["0"]);
    let error = run("create", "v", &[]).await.unwrap_err();
    assert_eq!(
        error.error.message(),
        "redis binding: missing key in request metadata"
    );
    let error = run("list", "", &[key]).await.unwrap_err();
    assert_eq!(error.error.message(), "invalid operation type: list");
}
