//! Files to resources, end to end: what loads, what is refused, what is warned about (requirements R3, A4.5, D14).

use std::path::{Path, PathBuf};

use outrigger_resources::{
    DiskLoader, DiskOptions, ResourceSource as _, Resources, Severity, Warning,
    configuration::{Configuration, ConfigurationError},
    kinds::{Component, McpServer, Resource as _},
    resource_from_json, yaml,
};
use outrigger_types::{AppId, Environment};
use proptest::prelude::*;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn load_from(paths: Vec<PathBuf>, namespace: Option<&str>) -> Resources {
    let options = DiskOptions {
        paths,
        app_id: AppId::new("myapp"),
        namespace: namespace.map(str::to_owned),
    };
    DiskLoader::new(options).load_blocking()
}

fn load(files: &[(&str, &str)], namespace: Option<&str>) -> Resources {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    load_from(vec![directory.path().to_owned()], namespace)
}

fn component(name: &str, r#type: &str, more_meta: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: {name}\n{more_meta}spec:\n  type: {type}\n  version: v1\n"
    )
}

fn names(resources: &Resources) -> Vec<&str> {
    resources
        .components
        .as_ref()
        .unwrap()
        .iter()
        .map(Component::name)
        .collect()
}

fn warning<'a>(resources: &'a Resources, text: &str) -> &'a Warning {
    resources
        .warnings
        .iter()
        .find(|warning| warning.message.contains(text))
        .unwrap_or_else(|| panic!("no warning with {text:?} in {:#?}", resources.warnings))
}

#[test]
fn the_seeds_components_load() {
    let resources = load_from(vec![golden("seed-003")], Some("default"));
    assert_eq!(resources.warnings, []);
    assert_eq!(
        names(&resources),
        ["kafka-pubsub", "statestore", "kubernetes-secret-store"]
    );
    let components = resources.components.unwrap();
    let [kafka, postgres, secrets] = &components[..] else {
        panic!("three components")
    };
    assert_eq!(kafka.log_name(), "kafka-pubsub (pubsub.kafka/v1)");
    assert_eq!(kafka.category(), "pubsub");
    let pairs: Vec<_> = kafka
        .spec
        .metadata
        .iter()
        .map(|pair| {
            (
                pair.name.as_str(),
                pair.value.text(),
                pair.secret_key_ref.name.as_str(),
            )
        })
        .collect();
    assert_eq!(
        pairs,
        [
            ("brokers", "kafka:9092".to_owned(), ""),
            ("consumerGroup", "todo-chatbot".to_owned(), ""),
            ("clientID", "todo-chatbot-app".to_owned(), ""),
            ("authRequired", "false".to_owned(), ""),
            ("saslUsername", "admin".to_owned(), ""),
            ("saslPassword", String::new(), "kafka-secret"),
        ]
    );
    assert_eq!(postgres.spec.metadata[0].secret_key_ref.key, "connection-string");
    assert_eq!(postgres.spec.metadata[3].value.text(), "true");
    assert!(secrets.spec.metadata.is_empty());
}

#[test]
fn the_seeds_configuration_loads() {
    let loaded = Configuration::load([golden("seed-003-config.yaml")], &Environment::default()).unwrap();
    assert_eq!(loaded.warnings, []);
    let configuration = loaded.configuration;
    assert_eq!(configuration.meta.name, "dapr-config");
    let tracing = configuration.spec.tracing.as_ref().unwrap();
    assert_eq!(tracing.sampling_rate, "1");
    let zipkin = tracing.zipkin.as_ref().unwrap();
    assert_eq!(
        zipkin.endpoint_address,
        "http://zipkin.default.svc.cluster.local:9411/api/v2/spans"
    );
    assert!(tracing.otel.as_ref().unwrap().secure());
    assert!(configuration.metric().is_enabled());
    let handler = &configuration.spec.http_pipeline.as_ref().unwrap().handlers[0];
    assert_eq!(handler.log_name(), "validator (middleware.http.validator)");
    let features = configuration.features([]);
    assert_eq!(
        features.iter().collect::<Vec<_>>(),
        ["Feature1", "HotReload", "WorkflowsRemoteActivityReminder"]
    );
}

#[test]
fn the_seeds_annotations_are_texts() {
    let text = std::fs::read_to_string(golden("seed-003-annotations.yaml")).unwrap();
    let annotations = yaml::parse_json(&text, yaml::Mode::GoYamlV2).unwrap();
    let annotations = annotations["annotations"].as_object().unwrap();
    assert_eq!(annotations.len(), 9);
    assert!(annotations.values().all(serde_json::Value::is_string));
    assert_eq!(annotations["dapr.io/app-port"], "8000");
}

#[test]
fn files_of_one_directory_load_in_the_order_of_their_names() {
    let text = |names: &[&str]| -> String {
        names
            .iter()
            .map(|name| component(name, "state.in-memory", ""))
            .collect::<Vec<_>>()
            .join("---\n")
    };
    let resources = load(
        &[
            ("2.yml", &text(&["c"])),
            ("1.yaml", &text(&["b", "a"])),
            ("3.YAML", &text(&["d"])),
            ("x.txt", "x"),
        ],
        None,
    );
    assert_eq!(names(&resources), ["b", "a", "c", "d"]);
    assert_eq!(
        warning(&resources, "not a YAML file").severity,
        Severity::Suspicious
    );
}

#[test]
fn equal_names_are_refused_with_upstreams_text() {
    let texts = [
        component("123", "state.in-memory", ""),
        component("123", "state.in-memory", ""),
        component("123", "pubsub.in-memory", ""),
        component("abc", "state.in-memory", ""),
        component("abc", "pubsub.in-memory", ""),
    ];
    let resources = load(&[("a.yaml", &texts.join("---\n"))], None);
    assert_eq!(
        resources.components.unwrap_err().to_string(),
        "duplicate definition of Component name 123 (state.in-memory/v1) with existing 123 (state.in-memory/v1)\n\
         duplicate definition of Component name 123 (pubsub.in-memory/v1) with existing 123 (state.in-memory/v1)\n\
         duplicate definition of Component name abc (pubsub.in-memory/v1) with existing abc (state.in-memory/v1)"
    );
    assert!(resources.http_endpoints.is_ok(), "another kind is not touched");
}

#[test]
fn namespaces_and_scopes_choose() {
    let in_namespace = |name: &str, namespace: &str| {
        component(name, "state.in-memory", &format!("  namespace: {namespace}\n"))
    };
    let scoped =
        |name: &str, scope: &str| format!("{}scopes: [{scope}]\n", component(name, "state.in-memory", ""));
    let text = [
        component("none", "state.in-memory", ""),
        in_namespace("own", "ns"),
        in_namespace("foreign", "other"),
        in_namespace("own2", "ns"),
        scoped("mine", "other, myapp"),
        scoped("theirs", "other"),
        scoped("theirs", "myapp"),
    ]
    .join("---\n");
    assert_eq!(
        names(&load(&[("a.yaml", &text)], Some("ns"))),
        ["none", "own", "own2", "mine", "theirs"]
    );
    assert_eq!(
        names(&load(&[("a.yaml", &text)], Some(""))),
        ["none", "own", "foreign", "own2", "mine", "theirs"]
    );
}

#[test]
fn a_bad_document_is_skipped_and_named_by_line() {
    let good = component("good", "state.in-memory", "");
    let text = format!(
        "{good}---\nkind: [\n---\n{}---\n{}---\n{}",
        component("bad/name", "state.in-memory", ""),
        component("typed", "state.in-memory", "").replace("v1\n", "v1\n  ignoreErrors: 3\n"),
        component("last", "state.in-memory", ""),
    );
    let resources = load(&[("a.yaml", &text)], None);
    assert_eq!(names(&resources), ["good", "last"]);
    let skipped: Vec<_> = resources
        .warnings
        .iter()
        .filter(|warning| warning.severity == Severity::Skipped)
        .collect();
    assert_eq!(skipped.len(), 3, "{skipped:#?}");
    assert!((9..=10).contains(&skipped[0].line), "{:?}", skipped[0]);
    let name = warning(
        &resources,
        "invalid name \"bad/name\" for \"Component\": may not contain '/'",
    );
    assert_eq!((name.line, name.column), (14, 9));
    let typed = warning(&resources, "spec.ignoreErrors: expected a bool, found a number");
    assert_eq!(typed.line, 26);
    assert!(typed.to_string().contains("a.yaml:26:"), "{typed}");
}

#[test]
fn what_is_suspicious_is_named_and_loaded() {
    let text = "apiVersion: dapr.io/v1alpha1\n\
                kind: Component\n\
                metadata:\n\
                \x20 name: c\n\
                spec:\n\
                \x20 type: state.redis\n\
                \x20 Version: v1\n\
                \x20 initTimout: 3s\n\
                \x20 initTimeout: soon\n\
                \x20 type: state.in-memory\n\
                \x20 metadata:\n\
                \x20 - name: a\n\
                \x20   value: yes\n\
                \x20 - name: A\n\
                \x20   value: 1.10\n\
                \x20   envRef: X\n";
    let resources = load(
        &[
            ("a.yaml", text),
            ("b.yaml", "kind: component\napiVersion: dapr.io/v1alpha1\n"),
        ],
        None,
    );
    let component = &resources.components.as_ref().unwrap()[0];
    assert_eq!(component.spec.r#type, "state.in-memory");
    assert_eq!(component.spec.version, "v1");
    assert_eq!(component.spec.metadata[0].value.text(), "true");
    assert_eq!(component.spec.metadata[1].value.text(), "1.1");
    assert_eq!(component.init_timeout().as_secs(), 5);
    for (text, line, cure) in [
        ("is spelt unlike", 7, "write version"),
        ("unknown field \"initTimout\"", 8, "did you mean initTimeout?"),
        ("is no duration above zero", 9, "30s"),
        ("is already on line 6", 10, "keep one"),
        ("yes is not in quotes and reads as true", 13, "\"yes\""),
        ("1.10 is not in quotes and reads as 1.1", 15, "\"1.10\""),
        ("\"A\" is given twice", 14, "keep one"),
        ("more than one of value", 14, "keep one"),
        ("component of \"dapr.io/v1alpha1\"", 1, "write kind: Component"),
    ] {
        let found = warning(&resources, text);
        assert_eq!(found.line, line, "{found:?}");
        assert!(found.cure.contains(cure), "{found:?}");
        assert_eq!(found.severity, Severity::Suspicious);
    }
}

#[test]
fn texts_take_numbers_except_where_go_does_not() {
    let text = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: 123\nspec:\n  type: state.x\n  version: 2\n";
    assert_eq!(names(&load(&[("a.yaml", text)], None)), ["123"]);
    let scoped = format!("{text}scopes: [123]\n");
    let resources = load(&[("a.yaml", &scoped)], None);
    assert!(names(&resources).is_empty(), "scopes sit in an embedded struct");
    assert_eq!(warning(&resources, "scopes.[0]: expected a text").line, 8);
}

#[test]
fn both_subscription_versions_become_one() {
    let text = "apiVersion: dapr.io/v1alpha1\nkind: Subscription\nmetadata: {name: one}\nspec: {topic: t, pubsubname: p, route: /r, \
                metadata: {rawPayload: true}, bulkSubscribe: {enabled: true, maxMessagesCount: 5}}\nscopes: [other]\n---\n\
                apiVersion: dapr.io/v2alpha1\nkind: Subscription\nmetadata: {name: one}\nspec:\n  topic: t\n  pubsubname: p\n  \
                routes:\n    rules: [{match: 'event.type == \"x\"', path: /x}]\n    default: /d\n  deadLetterTopic: dead\n";
    let subscriptions = load(&[("a.yaml", text)], Some("ns")).subscriptions.unwrap();
    let [v1, v2] = &subscriptions[..] else {
        panic!("both, whatever their names and scopes")
    };
    assert_eq!(v1.spec.routes.default, "/r");
    assert_eq!(v1.spec.metadata["rawPayload"], "true");
    assert!(v1.spec.bulk_subscribe.enabled && v1.spec.bulk_subscribe.max_messages_count == 5);
    assert_eq!(v2.spec.routes.rules[0].path, "/x");
    assert_eq!(v2.spec.dead_letter_topic, "dead");
}

#[test]
fn the_other_kinds_load() {
    let resources = load_from(vec![golden("kinds")], None);
    assert_eq!(resources.warnings, []);
    let resiliency = &resources.resiliencies.unwrap()[0];
    assert_eq!(resiliency.spec.policies.timeouts["general"], "5s");
    assert_eq!(resiliency.spec.policies.retries["often"].max_retries, Some(-1));
    assert_eq!(resiliency.spec.policies.circuit_breakers["cb"].max_requests, 1);
    assert_eq!(
        resiliency.spec.targets.components["store"]
            .outbound
            .circuit_breaker,
        "cb"
    );
    assert_eq!(resiliency.spec.targets.actors["A"].circuit_breaker_scope, "both");
    let endpoint = &resources.http_endpoints.unwrap()[0];
    assert_eq!(endpoint.log_name(), "web (https://example.com)");
    assert_eq!(endpoint.spec.headers[0].value.text(), "text/plain");
    let tls = endpoint.spec.client_tls.as_ref().unwrap();
    assert_eq!(tls.root_ca.as_ref().unwrap().secret().unwrap().key, "ca.pem");
    let server: &McpServer = &resources.mcp_servers.unwrap()[0];
    assert_eq!(server.log_name(), "tools (http://localhost:1/mcp)");
    assert_eq!(server.remote().unwrap().timeout.unwrap().to_string(), "30s");
    assert_eq!(
        server.spec.middleware.as_ref().unwrap().after_call_tool[0].mutate,
        Some(true)
    );
    let policy = &resources.workflow_access_policies.unwrap()[0];
    assert_eq!(policy.spec.rules[0].workflows[0].operations, ["schedule", "get"]);
    let configuration = &resources.configurations.unwrap()[0];
    let otel = configuration
        .spec
        .tracing
        .as_ref()
        .unwrap()
        .otel
        .as_ref()
        .unwrap();
    assert_eq!(otel.headers, ["x-key=abc"]);
    assert!(!format!("{configuration:?}").contains("abc"));
}

#[test]
fn a_missing_directory_fails_every_kind() {
    let resources = load_from(vec![PathBuf::from("no-such-directory")], None);
    let expected = "open no-such-directory: no such file or directory";
    assert_eq!(resources.components.as_ref().unwrap_err().to_string(), expected);
    assert_eq!(resources.first_error().unwrap().to_string(), expected);
}

#[tokio::test]
async fn the_loader_is_a_source() {
    let options = DiskOptions {
        paths: vec![golden("seed-003")],
        app_id: AppId::new("a"),
        namespace: None,
    };
    assert_eq!(DiskLoader::new(options).load().await.components.unwrap().len(), 3);
}

fn configurations(texts: &[&str], environment: &Environment) -> Result<Configuration, ConfigurationError> {
    let directory = tempfile::tempdir().unwrap();
    let paths: Vec<_> = (0..texts.len())
        .map(|index| directory.path().join(format!("{index}.yaml")))
        .collect();
    for (path, text) in paths.iter().zip(texts) {
        std::fs::write(path, text).unwrap();
    }
    Configuration::load(paths, environment).map(|loaded| loaded.configuration)
}

#[test]
fn several_configurations_add_up() {
    let environment = Environment::from_pairs([("RATE", "0.5")]);
    let first = "spec:\n  tracing: {samplingRate: $RATE, stdout: on}\n  metric: {enabled: true, rules: [{name: a}]}\n  \
                 metrics: {enabled: false, http: {increasedCardinality: false}}\n  features: [{name: A, enabled: true}]\n";
    let second = "spec:\n  tracing: {samplingRate: \"1${MISSING}\"}\n  features: [{name: HotReload, enabled: false}]\n  \
                  workflow: {stateRetentionPolicy: {anyTerminal: 90s}}\n  api: {allowed: [{name: state, version: v1, protocol: http}]}\n";
    let configuration = configurations(&[first, second], &environment).unwrap();
    let tracing = configuration.spec.tracing.as_ref().unwrap();
    assert_eq!((tracing.sampling_rate.as_str(), tracing.stdout), ("1", true));
    assert!(tracing.otel.as_ref().unwrap().secure());
    let metric = configuration.metric();
    assert!(!metric.is_enabled());
    assert_eq!(metric.increased_cardinality(), Some(false));
    assert_eq!(metric.rules[0].name, "a");
    assert_eq!(
        configuration.features(["Forced"]).iter().collect::<Vec<_>>(),
        ["Forced", "WorkflowsRemoteActivityReminder"]
    );
    let retention = configuration
        .spec
        .workflow
        .as_ref()
        .unwrap()
        .state_retention_policy
        .clone()
        .unwrap();
    assert_eq!(retention.any_terminal.unwrap().as_millis(), 90_000);
    assert_eq!(configuration.spec.access_control.unwrap().default_action, "allow");
    assert_eq!(
        configurations(&[], &environment).unwrap(),
        Configuration::defaults()
    );
}

#[test]
fn a_broken_configuration_says_where() {
    let error = |text: &str| {
        configurations(&[text], &Environment::default())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error("spec:\n  metric:\n    enabled: maybe later\n  features: 3\n"),
        "yaml: unmarshal errors:\n  line 3: cannot unmarshal !!str `maybe l...` into bool\n  \
         line 4: cannot unmarshal !!int `3` into []string"
    );
    assert_eq!(
        error("spec:\n  features: []\n  features: []\n"),
        "yaml: unmarshal errors:\n  line 3: mapping key \"features\" already defined at line 2"
    );
    assert_eq!(
        error("spec: {secrets: {scopes: [{storeName: a}, {storeName: a}]}}"),
        "a storeName is repeated in secrets configuration"
    );
    assert_eq!(
        error("spec: {secrets: {scopes: [{storeName: a, defaultAccess: maybe}]}}"),
        "defaultAccess maybe can be either allow or deny"
    );
    assert!(error("spec: [").starts_with("yaml: line "));
    let missing = Configuration::load(["no-such-file"], &Environment::default()).unwrap_err();
    assert_eq!(
        missing.to_string(),
        "stat no-such-file: no such file or directory"
    );
}

#[test]
fn an_empty_configuration_file_keeps_the_defaults() {
    assert_eq!(
        configurations(&["", "# nothing\n"], &Environment::default()).unwrap(),
        Configuration::defaults()
    );
}

#[test]
fn the_operators_json_is_read_exactly() {
    let json = serde_json::json!({
        "metadata": {"name": "c", "resourceVersion": "7"},
        "spec": {"type": "state.redis", "version": "v1", "metadata": [{"name": "a", "value": {"b": [1, 2.5]}}]},
    });
    let (component, findings) = resource_from_json::<Component>(&json).unwrap();
    assert_eq!(component.spec.metadata[0].value.text(), r#"{"b":[1,2.5]}"#);
    assert!(findings.is_empty());
    let wrong = serde_json::json!({"spec": {"type": 3}});
    assert!(resource_from_json::<Component>(&wrong).is_err());
    let json = serde_json::json!({"spec": {"tracing": {"otel": {"headers": [{"name": "a", "value": "b"}]}}}});
    let configuration = Configuration::from_operator(&json).unwrap();
    assert_eq!(configuration.spec.tracing.unwrap().otel.unwrap().headers, ["a=b"]);
}

#[test]
fn otel_variables_complete_tracing() {
    let environment = Environment::from_pairs([
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "true"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=b%20c, d = e"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "250"),
    ]);
    let mut tracing = Configuration::defaults().spec.tracing.unwrap();
    tracing.complete_from(&environment).unwrap();
    let otel = tracing.otel.as_ref().unwrap();
    assert_eq!(
        (otel.endpoint_address.as_str(), otel.protocol.as_str()),
        ("collector:4318", "http")
    );
    assert_eq!(tracing.sampling_rate, "1");
    assert!(!otel.secure());
    assert_eq!(otel.headers, ["a=b c", "d=e"]);
    assert_eq!(otel.timeout.unwrap().as_millis(), 250);
    let before = tracing.clone();
    tracing
        .complete_from(&Environment::from_pairs([(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "other",
        )]))
        .unwrap();
    assert_eq!(tracing, before, "an address that is set stays");
}

#[test]
fn alias_bombs_and_deep_nesting_are_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..9 {
        let below = format!("*a{}", level - 1);
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", vec![below; 10].join(", ")));
    }
    for mode in [yaml::Mode::GoYamlV2, yaml::Mode::YamlV3] {
        let error = yaml::parse(&bomb, mode).unwrap_err();
        assert_eq!(error.message, "document contains excessive aliasing");
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        assert!(yaml::parse(&deep, mode).is_err());
        let nested = (0..5000)
            .map(|depth| format!("{}a:\n", " ".repeat(depth)))
            .collect::<String>();
        assert!(yaml::parse(&nested, mode).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC*|[-a-c:&*!<>{}\\[\\], \"'|\n#%@`?0-9_.~$\t]{0,60}") {
        for mode in [yaml::Mode::GoYamlV2, yaml::Mode::YamlV3] {
            let _ = yaml::parse_json(&text, mode);
        }
        let _ = yaml::expand_environment(&text, &Environment::default());
    }

    #[test]
    fn no_file_makes_the_loader_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        field in "[a-zA-Z]{1,12}",
        value in "[-a-c:&*!{}\\[\\], \"'|0-9_.~]{0,20}",
    ) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a.yaml"), &bytes).unwrap();
        let text = format!("apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: x\nspec:\n  {field}: {value}\n");
        std::fs::write(directory.path().join("b.yaml"), text.replace("Component", "Configuration")).unwrap();
        std::fs::write(directory.path().join("c.yaml"), text).unwrap();
        let resources = load_from(vec![directory.path().to_owned()], Some("ns"));
        for warning in &resources.warnings {
            let _ = warning.to_string();
        }
        let _ = Configuration::load([directory.path().join("b.yaml")], &Environment::default());
    }
}
