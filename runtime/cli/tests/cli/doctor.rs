//! `doctor`: every broken thing is named, with its place and a cure.

use std::fs;

use serde_json::Value;

use crate::support::Home;

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "doctor_names_every_broken_thing_with_place_and_cure",
        doctor_names_every_broken_thing_with_place_and_cure,
    ),
    (
        "doctor_finds_nothing_wrong_with_the_defaults",
        doctor_finds_nothing_wrong_with_the_defaults,
    ),
    ("doctor_reads_run_files", doctor_reads_run_files),
];

/// File, text, and what doctor must say about it: severity, line, words of the message, words of the cure.
type Case = (
    &'static str,
    &'static str,
    &'static [(&'static str, u64, &'static str, &'static str)],
);

const CASES: &[Case] = &[
    (
        "syntax.yaml",
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: x\nspec: [\n",
        &[("error", 0, "", "correct the YAML")],
    ),
    (
        "type.yaml",
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: mistyped\nspec:\n  type: state.sqlit\n  version: v1\n",
        &[(
            "error",
            6,
            "no component type \"state.sqlit\"",
            "did you mean state.sqlite?",
        )],
    ),
    (
        "version.yaml",
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: versioned\nspec:\n  type: state.sqlite\n  version: v9\n",
        &[("error", 6, "has no version \"v9\"", "v1")],
    ),
    (
        "field.yaml",
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: field\nspec:\n  typ: state.sqlite\n  type: state.in-memory\n  version: v1\n",
        &[("warning", 6, "typ", "")],
    ),
    (
        "setting.yaml",
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: setting\nspec:\n  type: state.sqlite\n  version: v1\n  metadata:\n  - name: connectionString\n    value: \":memory:\"\n  - name: tabelName\n    value: items\n",
        &[(
            "warning",
            11,
            "does not read \"tabelName\"",
            "did you mean tableName?",
        )],
    ),
    (
        "value.yaml",
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: value\nspec:\n  type: state.sqlite\n  version: v1\n  metadata:\n  - name: connectionString\n    value: \":memory:\"\n  - name: timeout\n    value: 10ms\n",
        &[("error", 11, "'timeout'", "correct spec.metadata")],
    ),
    (
        "secret-store.yaml",
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: needs-store\nspec:\n  type: state.sqlite\n  version: v1\n  metadata:\n  - name: connectionString\n    secretKeyRef:\n      name: db\nauth:\n  secretStore: valut\n",
        &[(
            "error",
            9,
            "secret store \"valut\" is not among",
            "did you mean vault?",
        )],
    ),
    (
        "secret-key.yaml",
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: vault\nspec:\n  type: secretstores.local.file\n  version: v1\n  metadata:\n  - name: secretsFile\n    value: secrets.json\n---\napiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: needs-key\nspec:\n  type: state.sqlite\n  version: v1\n  metadata:\n  - name: connectionString\n    secretKeyRef:\n      name: missing\nauth:\n  secretStore: vault\n",
        &[("error", 0, "missing", "")],
    ),
    (
        "no-store.yaml",
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: storeless\nspec:\n  type: state.sqlite\n  version: v1\n  metadata:\n  - name: connectionString\n    secretKeyRef:\n      name: db\n",
        &[("error", 9, "no secret store is named", "auth.secretStore: vault")],
    ),
    (
        "variable.yaml",
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: variables\nspec:\n  type: bindings.http\n  version: v1\n  metadata:\n  - name: url\n    envRef: NO_SUCH_VARIABLE_HERE\n  - name: maxResponseBodySize\n    envRef: DAPR_API_TOKEN\n",
        &[
            (
                "warning",
                9,
                "NO_SUCH_VARIABLE_HERE is not set",
                "export NO_SUCH_VARIABLE_HERE",
            ),
            (
                "error",
                11,
                "DAPR_API_TOKEN may not be referred to",
                "choose another name",
            ),
        ],
    ),
    (
        "twice.yaml",
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: vault\nspec:\n  type: secretstores.local.env\n  version: v1\n",
        &[("error", 6, "\"vault\" is there already, at ", "rename or remove")],
    ),
    (
        "folder.yaml",
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: folderless\nspec:\n  type: state.sqlite\n  version: v1\n  metadata:\n  - name: connectionString\n    value: no/such/folder/a.db\n",
        &[("error", 9, "there is no folder", "mkdir -p")],
    ),
    (
        "subscription.yaml",
        "apiVersion: dapr.io/v2alpha1\nkind: Subscription\nmetadata:\n  name: wrong-broker\nspec:\n  pubsubname: pubsup\n  topic: placed\n---\napiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: pubsub\nspec:\n  type: pubsub.in-memory\n  version: v1\n",
        &[
            (
                "error",
                4,
                "no pub/sub component \"pubsup\"",
                "did you mean pubsub?",
            ),
            ("warning", 4, "no route", "spec.routes.default"),
        ],
    ),
    (
        "resiliency.yaml",
        "apiVersion: dapr.io/v1alpha1\nkind: Resiliency\nmetadata:\n  name: policies\nspec:\n  policies:\n    retries:\n      often: {policy: constant, duration: 1s, maxRetries: 3}\n  targets:\n    components:\n      pubsubb:\n        outbound: {retry: offten}\n",
        &[
            ("error", 0, "uses the retry \"offten\"", "did you mean often?"),
            ("warning", 0, "no component \"pubsubb\"", "did you mean pubsub?"),
        ],
    ),
    (
        "scopes.yaml",
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: scoped\nspec:\n  type: state.in-memory\n  version: v1\nscopes: [ordres]\n",
        &[("warning", 6, "scoped to ordres", "did you mean orders?")],
    ),
    (
        "kind.yaml",
        "apiVersion: dapr.io/v1alpha1\nkind: Componentt\nmetadata:\n  name: x\n",
        &[("warning", 2, "is no resource of a sidecar", "")],
    ),
    (
        "notes.txt",
        "not a resource\n",
        &[("warning", 0, "not a YAML file", "*.yaml")],
    ),
    (
        "away.yaml",
        // Nobody listens on port 1.
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: away\nspec:\n  type: state.redis\n  version: v1\n  metadata:\n  - name: redisHost\n    value: 127.0.0.1:1\n  - name: redisPasword\n    value: x\n",
        &[
            (
                "error",
                6,
                "away (state.redis/v1) does not open",
                "start its server",
            ),
            (
                "warning",
                11,
                "does not read \"redisPasword\"",
                "did you mean redisPassword?",
            ),
        ],
    ),
    (
        "reachable.yaml",
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: damaged\nspec:\n  type: state.sqlite\n  version: v1\n  metadata:\n  - name: connectionString\n    value: damaged.db\n",
        &[("error", 9, "damaged.db", "outrigger restore")],
    ),
];

fn doctor_names_every_broken_thing_with_place_and_cure() {
    let home = Home::new();
    let folder = home.path("resources");
    for (name, text, _) in CASES {
        fs::write(folder.join(name), text).unwrap();
    }
    fs::write(home.path("secrets.json"), "{\"db\": \"x\"}").unwrap();
    fs::write(
        home.path("damaged.db"),
        "this was a database before somebody edited it by hand",
    )
    .unwrap();
    let config = "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata:\n  name: c\nspec:\n  httpPipeline:\n    handlers:\n    - name: upper\n      type: middleware.http.uppercase\n  tracingg: {}\n";
    fs::write(home.path("config.yaml"), config).unwrap();
    let args = [
        "doctor",
        "--resources-path",
        "resources",
        "-c",
        "config.yaml",
        "-a",
        "orders",
    ];
    let (status, text) = home.outrigger(&[&args[..], &["-o", "json"]].concat());
    assert_eq!(status.code(), Some(1), "{text}");
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["ok"], false);
    let findings = report["findings"].as_array().unwrap();
    let has = |file: &str, severity: &str, line: u64, message: &str, cure: &str| {
        let found = findings.iter().any(|finding| {
            finding["file"]
                .as_str()
                .is_some_and(|path| path.ends_with(&format!("/{file}")))
                && finding["severity"] == severity
                && (line == 0 || finding["line"] == line)
                && finding["message"].as_str().unwrap().contains(message)
                && finding["cure"].as_str().unwrap().contains(cure)
        });
        let of_file: Vec<&Value> = findings
            .iter()
            .filter(|finding| finding["file"].as_str().is_some_and(|path| path.ends_with(file)))
            .collect();
        assert!(
            found,
            "{file}:{line} {severity} {message:?} {cure:?} is not among {of_file:#?}"
        );
    };
    for (file, _, wanted) in CASES {
        for (severity, line, message, cure) in *wanted {
            has(file, severity, *line, message, cure);
        }
    }
    has("config.yaml", "error", 0, "no middleware component \"upper\"", "");
    has("config.yaml", "warning", 10, "tracingg", "");
    // What is wrong has a cure, all of it.
    for finding in findings.iter().filter(|finding| finding["severity"] == "error") {
        assert_ne!(finding["cure"], "", "{finding}");
    }

    let (status, plain) = home.outrigger(&args);
    assert_eq!(status.code(), Some(1));
    assert!(
        plain.contains("resources/type.yaml:6: ") && plain.contains("→ did you mean state.sqlite?"),
        "{plain}"
    );
    assert!(!plain.contains('\x1b'), "no colours into a pipe");
}

fn doctor_finds_nothing_wrong_with_the_defaults() {
    let home = Home::new();
    let (status, text) = home.outrigger(&["doctor"]);
    assert!(status.success() && text.contains("nothing is wrong"), "{text}");
    assert!(!home.path("data/outrigger").exists(), "doctor makes nothing");
    let warned = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: x\nspec:\n  type: state.in-memory\n  version: v1\n  unknown: 1\n";
    fs::write(home.path("resources/x.yaml"), warned).unwrap();
    let args = ["doctor", "--resources-path", "resources"];
    let (status, text) = home.outrigger(&args);
    assert!(status.success() && text.contains("warning"), "{text}");
    let (status, text) = home.outrigger(&[&args[..], &["--strict"]].concat());
    assert_eq!(status.code(), Some(1), "{text}");
    let (status, text) = home.outrigger(&["doctor", "--resources-path", "nowhere"]);
    assert!(!status.success() && text.contains("mkdir -p"), "{text}");
}

fn doctor_reads_run_files() {
    let home = Home::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let id = home.id("doc");
    let file = home.run_file(&format!(
        "- {{appDirPath: web, appID: {id}, appPort: {port}, daprHTTPPort: {port}, command: [no-such-program]}}\n- {{appDirPath: web, appID: {id}, colour: red, command: [sh]}}\n"
    ));
    let (status, text) = home.outrigger(&["doctor", "-f", &file]);
    assert!(!status.success(), "{text}");
    for words in [
        "no program \"no-such-program\"",
        "is given to several apps",
        "unknown field \"colour\"",
        &format!("appPort of {id} is {port}, which"),
        &format!("daprHTTPPort of {id} is {port}, which appPort of {id} has already"),
        &format!("process {}", std::process::id()),
    ] {
        assert!(text.contains(words), "{words:?} is not in:\n{text}");
    }
    fs::write(home.path("dapr.yaml"), "version: 1\napps:\n- appID: x\n").unwrap();
    let (status, text) = home.outrigger(&["doctor"]);
    assert!(
        !status.success() && text.contains("dapr.yaml") && text.contains("appDirPath"),
        "{text}"
    );
}
