//! Bytes of every language are read the same (J5.1). `VIRTUFIN_BLESS=1` writes this language's bytes anew; the tests
//! below `sdks/python` and `sdks/typescript` do the same for theirs.

use std::path::{Path, PathBuf};

use outrigger_kit::Event;
use outrigger_platform_core::{Variant, event::WorkerResponse};
use serde_json::Value;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

fn variant(value: &Value) -> Variant {
    match value {
        Value::Null => Variant::None,
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => number.as_i64().expect("an integer").try_into().unwrap(),
        Value::String(text) => text.as_str().into(),
        Value::Array(elements) => Variant::Array(elements.iter().map(variant).collect()),
        Value::Object(entries) => Variant::Dictionary(
            entries
                .iter()
                .map(|(key, value)| (key.clone(), variant(value)))
                .collect(),
        ),
    }
}

fn response() -> WorkerResponse {
    WorkerResponse {
        event: Some(Event::from_json(&std::fs::read(data("event.json")).unwrap()).unwrap()),
        error: Some("late".to_owned()),
    }
}

fn sample() -> Variant {
    variant(&serde_json::from_slice(&std::fs::read(data("variant.json")).unwrap()).unwrap())
}

// X11
#[test]
fn bytes_of_every_language_are_read_the_same() {
    for language in ["rust", "python", "typescript"] {
        let bytes = std::fs::read(data(&format!("variant.{language}.bin"))).unwrap();
        assert_eq!(Variant::from_bytes(&bytes), Ok(sample()), "{language}");
        let bytes = std::fs::read(data(&format!("event.{language}.bin"))).unwrap();
        assert_eq!(WorkerResponse::from_bytes(&bytes), Ok(response()), "{language}");
    }
}

// X12
#[test]
fn what_is_written_is_what_the_others_read() {
    for (name, written) in [
        ("variant.rust.bin", sample().to_bytes().unwrap()),
        ("event.rust.bin", response().to_bytes()),
    ] {
        if std::env::var_os("VIRTUFIN_BLESS").is_some() {
            std::fs::write(data(name), &written).unwrap();
        }
        assert_eq!(std::fs::read(data(name)).unwrap(), written, "{name}");
    }
}
