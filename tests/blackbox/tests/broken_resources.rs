//! A broken resource file is named with its line and what to do about it, and costs no more than itself.

use crate::support::sidecar::{Launch, component};

const HEAD: &str = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: broken\nspec:\n";

/// What is in the file, where it is wrong, and words of the cure.
const CASES: &[(&str, &str, &str)] = &[
    (
        "  type: state.sqlite\n  version: v1\n  metadata:\n  - name: connectionString\n   value: x\n",
        "10:4",
        "correct the YAML",
    ),
    ("\ttype: state.in-memory\n", "6:2", "correct the YAML"),
    (
        "  type: \"state.in-memory\n  version: v1\n",
        "6:9",
        "correct the YAML",
    ),
    ("  type: *nowhere\n", "6:9", "correct the YAML"),
    ("  - type\n  - version\n", "6:3", "correct the value"),
    (
        "  type: state.in-memory\n  version: v1\n  metadata:\n    a: b\n",
        "9:5",
        "correct the value",
    ),
    (
        "  ignoreErrors: perhaps\n  type: state.in-memory\n  version: v1\n",
        "6:17",
        "correct the value",
    ),
    (
        "  type: state.in-memory\n  version: v1\n  metdata: []\n",
        "8:3",
        "did you mean metadata?",
    ),
    (
        "  type: state.in-memory\n  version: v1\n  version: v1\n",
        "8:3",
        "keep one of them",
    ),
    (
        "  type: state.in-memory\n  version: v1\n  initTimeout: soon\n",
        "8:16",
        "write for instance 30s",
    ),
];

/// The same for whole files.
const FILES: &[(&[u8], &str, &str)] = &[
    (
        b"apiVersion: dapr.io/v1alpha1\nkind: Componet\nmetadata:\n  name: broken\n",
        "2:7",
        "correct kind",
    ),
    (
        b"apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {}\nspec:\n  type: state.in-memory\n",
        "1:1",
        "add metadata.name",
    ),
    (b"\x00\x01\xff\xfe", "1", "save the file as UTF-8"),
    (
        b"apiVersion: dapr.io/v2alpha1\nkind: Subscription\nmetadata:\n  name: s\nspec:\n  topic: [a]\n",
        "6:10",
        "correct the value",
    ),
];

#[tokio::test]
async fn a_broken_file_is_named_with_its_line_and_cure() {
    let mut launch = Launch::new("broken").component("good", "state.in-memory", &[]);
    let mut expected = Vec::new();
    for (number, (spec, at, cure)) in CASES.iter().enumerate() {
        let file = format!("case{number}.yaml");
        // Names differ: two of one name would be a fault of their own.
        let text = format!("{HEAD}{spec}").replace("name: broken", &format!("name: broken{number}"));
        launch = launch.resource(&file, &text);
        expected.push((file, *at, *cure));
    }
    let mut sidecar = launch.start().await;
    for (file, at, cure) in &expected {
        let place = format!("{}:{at}:", sidecar.resources.join(file).display());
        sidecar.logs(&["level=warning", &place, cure]).await;
    }
    // The good one beside them serves.
    sidecar.assert_alive().await;
    let url = sidecar.url("/v1.0/state/good/missing");
    assert_eq!(crate::support::client::get(&url).await.unwrap().status, 204);
}

#[tokio::test]
async fn a_file_that_is_no_resource_is_named_with_its_line_and_cure() {
    let folder = tempfile::tempdir().unwrap();
    for (number, (content, ..)) in FILES.iter().enumerate() {
        std::fs::write(folder.path().join(format!("file{number}.yaml")), content).unwrap();
    }
    let launch = Launch::new("broken").args(["--resources-path", folder.path().to_str().unwrap()]);
    let mut sidecar = launch.start().await;
    for (number, (_, at, cure)) in FILES.iter().enumerate() {
        let place = format!(
            "{}:{at}:",
            folder.path().join(format!("file{number}.yaml")).display()
        );
        sidecar.logs(&["level=warning", &place, cure]).await;
    }
    sidecar.assert_alive().await;
}

#[tokio::test]
async fn a_component_that_cannot_start_is_named_with_its_file_and_line() {
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);
    let cases: &[Case<'_>] = &[
        ("state.nosuch", &[], "couldn't find state store state.nosuch/v1"),
        ("state.sqlite", &[], "missing connection string"),
        (
            "state.sqlite",
            &[("connectionString", "x.db"), ("timeout", "sooon")],
            "\\\"sooon\\\" is not a duration such as 30s or 1h30m",
        ),
        (
            "secretstores.local.file",
            &[("secretsFile", "no/such/file.json")],
            "no/such/file.json",
        ),
    ];
    for (kind, metadata, cause) in cases {
        let mut sidecar = Launch::new("broken").component("broken", kind, metadata).spawn();
        assert_eq!(sidecar.ended().await.code(), Some(1), "{}", sidecar.log());
        sidecar.logs(&["level=error", "broken", kind, cause]).await;
        sidecar.logs(&["level=fatal", "broken", kind, cause]).await;
        let place = format!(
            "{}:6: component broken ({kind}/v1) cannot start: ",
            sidecar.resources.join("broken.yaml").display()
        );
        sidecar
            .logs(&["level=error", &place, cause, "correct the file"])
            .await;
    }
    let again = component("twice", "state.in-memory", &[]);
    let mut sidecar = Launch::new("broken")
        .resource("a.yaml", &again)
        .resource("b.yaml", &again)
        .spawn();
    assert_eq!(sidecar.ended().await.code(), Some(1), "{}", sidecar.log());
    sidecar
        .logs(&["level=fatal", "duplicate definition of Component name twice"])
        .await;
}
