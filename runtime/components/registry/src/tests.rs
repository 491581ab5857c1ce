#[cfg(all(
    unix,
    feature = "sqlite",
    feature = "bindings",
    feature = "secretstores",
    feature = "crypto",
    feature = "conversation",
    feature = "middleware",
    feature = "wasm",
    feature = "name-resolution",
    feature = "redis",
    feature = "rabbitmq",
    feature = "postgres"
))]
mod page;

use std::{collections::BTreeMap, fs, path::Path};

use outrigger_component::Registration;

use super::{Category, UnknownType, find};

/// Types with their versions, of one block.
fn listed<I: ?Sized>(
    category: Category,
    registrations: &[Registration<I>],
    all: &mut BTreeMap<String, String>,
) {
    for registration in registrations {
        assert!(!registration.versions.is_empty());
        for name in registration.type_names {
            assert_eq!(Category::of(name), Some(category), "{name}");
            assert!(
                find(registrations, name, registration.versions[0]).is_ok(),
                "{name}"
            );
            assert!(
                find(registrations, &name.to_uppercase(), "V1").is_ok()
                    || !registration.versions.contains(&"v1")
            );
            let twice = all.insert((*name).to_owned(), registration.versions.join(","));
            assert_eq!(twice, None, "{name} is registered twice");
        }
    }
}

fn all() -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    listed(Category::State, &super::state(), &mut all);
    listed(Category::PubSub, &super::pubsub(), &mut all);
    listed(Category::Bindings, &super::bindings(), &mut all);
    listed(Category::SecretStores, &super::secret_stores(), &mut all);
    listed(Category::Configuration, &super::configuration(), &mut all);
    listed(Category::Lock, &super::lock(), &mut all);
    listed(Category::Crypto, &super::crypto(), &mut all);
    listed(Category::Conversation, &super::conversation(), &mut all);
    listed(Category::Middleware, &super::middleware(), &mut all);
    listed(Category::NameResolution, &super::name_resolution(), &mut all);
    all
}

/// The rows of `types.txt`: type, versions, test.
fn documented() -> Vec<[String; 3]> {
    include_str!("../types.txt")
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .map(|line| {
            let mut words = line.split_whitespace().map(str::to_owned);
            [(); 3].map(|()| {
                words
                    .next()
                    .unwrap_or_else(|| panic!("three columns in {line:?}"))
            })
        })
        .collect()
}

#[test]
#[cfg(all(
    unix,
    feature = "sqlite",
    feature = "bindings",
    feature = "secretstores",
    feature = "crypto",
    feature = "conversation",
    feature = "middleware",
    feature = "wasm",
    feature = "name-resolution",
    feature = "redis",
    feature = "rabbitmq",
    feature = "postgres"
))]
fn every_type_is_listed_with_its_test() {
    let listed: BTreeMap<String, String> = documented()
        .into_iter()
        .map(|[name, versions, _]| (name, versions))
        .collect();
    assert_eq!(
        listed,
        all(),
        "types.txt (left) and the registrations (right) differ"
    );
}

#[test]
fn every_named_test_exists() {
    let runtime = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut before = String::new();
    for [name, _, test] in documented() {
        assert!(before < name, "types.txt is not in order at {name}");
        let text = fs::read_to_string(runtime.join(&test)).unwrap_or_default();
        assert!(
            text.contains("#[test]") || text.contains("#[tokio::test") || text.contains("suite::"),
            "{name}: there is no test in {test}"
        );
        before = name;
    }
}

#[test]
fn types_belong_to_blocks() {
    for (type_name, category) in [
        ("state.sqlite", Some(Category::State)),
        ("secretstores.local.env", Some(Category::SecretStores)),
        ("middleware.http.uppercase", Some(Category::Middleware)),
        ("State.sqlite", None),
        ("states.sqlite", None),
        ("state", None),
        ("", None),
    ] {
        assert_eq!(Category::of(type_name), category, "{type_name}");
    }
    assert_eq!(Category::NameResolution.type_name("mdns"), "nameresolution.mdns");
}

#[test]
fn unknown_types_are_named_as_upstream_names_them() {
    for (type_name, text) in [
        ("state.x", "couldn't find state store state.x/v1"),
        ("pubsub.x", "couldn't find message bus pubsub.x/v1"),
        ("bindings.x", "couldn't find binding bindings.x/v1"),
        ("secretstores.x", "couldn't find secret store secretstores.x/v1"),
        (
            "configuration.x",
            "couldn't find configuration store configuration.x/v1",
        ),
        ("lock.x", "couldn't find lock store lock.x/v1"),
        ("crypto.x", "couldn't find crypto provider crypto.x/v1"),
        ("conversation.x", "couldn't find conversation conversation.x/v1"),
        (
            "middleware.http.x",
            "HTTP middleware middleware.http.x/v1 has not been registered",
        ),
        ("nameresolution.x", "couldn't find name resolver x/v1"),
        ("pubsubs.x", "incorrect type pubsubs.x"),
    ] {
        let unknown = find(&super::state(), type_name, "v1").unwrap_err();
        assert_eq!(unknown.to_string(), text);
    }
    let unknown = UnknownType {
        type_name: "bindings.x".into(),
        version: "v1".into(),
    };
    assert_eq!(
        unknown.of_component("b"),
        "couldn't find binding b (bindings.x/v1)"
    );
}

#[test]
fn versions_are_told_apart() {
    let state = super::state();
    for version in ["", "v0", "v1", "V1"] {
        assert!(find(&state, "State.In-Memory", version).is_ok(), "{version}");
    }
    assert!(find(&state, "state.in-memory", "v2").is_err());
}

#[test]
#[cfg(feature = "middleware")]
fn only_the_validator_needs_no_component() {
    let handler = super::built_in_middleware("middleware.http.validator", "validator");
    assert!(handler.is_some());
    for other in [
        "middleware.http.bearer",
        "middleware.http.Validator",
        "state.in-memory",
        "",
    ] {
        assert!(
            super::built_in_middleware(other, "validator").is_none(),
            "{other}"
        );
    }
}
