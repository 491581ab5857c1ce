//! Holds `docs/components.md` against the code: every name that a component asks its metadata for is in its row, and
//! every name in a row is asked for.

use std::collections::{BTreeMap, BTreeSet};

use outrigger_component::{Properties, Reads, Registration, Spec};

const PAGE: &str = include_str!("../../../../../docs/components.md");

/// The least metadata with which a type looks at all its fields, where empty metadata is refused before that.
fn least(type_name: &str) -> Vec<(&'static str, &'static str)> {
    let block = type_name.rsplit('.').next().unwrap_or_default();
    match type_name {
        "bindings.cron" => vec![("schedule", "@every 1h")],
        "bindings.localstorage" => vec![("rootPath", "folder")],
        "crypto.dapr.jwks" => vec![("jwks", "{\"keys\":[]}")],
        "crypto.dapr.localstorage" | "nameresolution.registry" => vec![("path", "folder")],
        "middleware.http.bearer" => vec![("issuer", "i"), ("audience", "a")],
        "middleware.http.oauth2" => vec![("authURL", "http://h/"), ("tokenURL", "http://h/")],
        "middleware.http.oauth2clientcredentials" => vec![
            ("headerName", "a"),
            ("clientID", "c"),
            ("clientSecret", "s"),
            ("scopes", "s"),
            ("tokenURL", "http://h/"),
        ],
        "middleware.http.opa" => vec![("rego", "package http\nallow = true")],
        "middleware.http.wasm" => vec![("url", "http://h/")],
        "nameresolution.dns" => vec![("host", "{appid}")],
        "nameresolution.nameformat" => vec![("format", "{appid}")],
        "secretstores.hashicorp.vault" => vec![("vaultToken", "t")],
        "secretstores.local.file" => vec![("secretsFile", "f")],
        _ if block == "redis" => vec![("redisHost", "h:1")],
        _ if block.starts_with("sqlite") => vec![("connectionString", "f.db")],
        _ if block.starts_with("postgres") => vec![("connectionString", "host=h"), ("table", "t")],
        _ => Vec::new(),
    }
}

/// Names in a row that the component itself does not ask for when it is validated, and who does.
fn asked_elsewhere(type_name: &str) -> &'static [&'static str] {
    match type_name.split_once('.').map_or("", |(block, _)| block) {
        // `sidecar/state` and `sidecar/pubsub`.
        "state" => &[
            "keyPrefix",
            "primaryEncryptionKey",
            "secondaryEncryptionKey",
            "outboxPublishPubsub",
            "outboxPublishTopic",
            "outboxPubsub",
            "outboxDiscardWhenMissingState",
        ],
        // The sidecar fills in the app's id and hands it on with every subscription.
        "pubsub" => &["consumerID"],
        _ => &[],
    }
}

/// Settings that only together bring others.
const BOTH: [(&str, &str); 1] = [("failover", "sentinelMasterName")];

/// A row: its types with their versions, and the names in it.
struct Row {
    types: Vec<String>,
    versions: Vec<String>,
    /// All names, in lower case.
    names: BTreeSet<String>,
    /// Those that are no alias or value in brackets: each is a field.
    fields: BTreeSet<String>,
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Without what is in brackets of this kind.
fn without(text: &str, open: char, close: char) -> String {
    let mut depth = 0_usize;
    text.chars()
        .filter(|letter| {
            depth += usize::from(*letter == open);
            let kept = depth == 0;
            depth -= usize::from(*letter == close && depth > 0);
            kept
        })
        .collect()
}

fn rows() -> Vec<Row> {
    // "- **SQLite**: fields", over several lines.
    let mut families: BTreeMap<&str, String> = BTreeMap::new();
    for part in PAGE.split("\n- **").skip(1) {
        if let Some((name, rest)) = part.split_once("**: ") {
            let end = rest.find("\n\n").unwrap_or(rest.len());
            families.insert(name, rest[..end].to_owned());
        }
    }
    let name = |text: &str| !text.is_empty() && text.chars().all(|letter| letter.is_ascii_alphanumeric());
    let mut rows = Vec::new();
    for line in PAGE.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.split(" | ").collect();
        let [types, fields] = cells[..] else {
            panic!("two cells in {line}")
        };
        let mut text = fields.to_owned();
        for (family, shared) in &families {
            let of_family = fields.contains(&format!("those of {family}"));
            if of_family || *family == "every state store" && types.contains("`state.") {
                text += shared;
            }
        }
        let (types, versions): (Vec<_>, Vec<_>) = quoted(types).partition(|word| word.contains('.'));
        let owned = |words: Vec<&str>| words.into_iter().map(str::to_owned).collect();
        let fields = without(&without(&text, '{', '}'), '(', ')');
        rows.push(Row {
            types: owned(types),
            versions: owned(versions),
            names: quoted(&text).map(str::to_ascii_lowercase).collect(),
            fields: quoted(&fields)
                .filter(|word| name(word))
                .map(str::to_owned)
                .collect(),
        });
    }
    rows
}

/// What a type asks for, with its least metadata and with every field of its row in turn: a setting may bring others.
fn asked<I: ?Sized>(registration: &Registration<I>, type_name: &str, version: &str, row: &Row) -> Reads {
    let mut all = Reads::default();
    let mut ask = |pairs: &[(&str, &str)]| {
        let spec = Spec {
            name: "c".into(),
            type_name: type_name.to_owned(),
            version: version.to_owned(),
            properties: Properties::from_pairs(pairs.iter().copied()).watched(),
        };
        // Whether it can be used is another question.
        drop((registration.validate)(&spec));
        let reads = spec.properties.reads();
        all.names.extend(reads.names);
        all.all |= reads.all;
    };
    let least = least(type_name);
    ask(&[]);
    ask(&least);
    for (switch, other) in BOTH {
        let mut pairs = least.clone();
        pairs.extend([(switch, "true"), (other, "x")]);
        ask(&pairs);
    }
    for field in &row.fields {
        for value in ["true", "1"] {
            let mut pairs = least.clone();
            pairs.push((field, value));
            ask(&pairs);
        }
    }
    all
}

fn hold<I: ?Sized>(registrations: &[Registration<I>], rows: &[Row], wrong: &mut Vec<String>) {
    for registration in registrations {
        for (type_name, version) in registration
            .type_names
            .iter()
            .flat_map(|name| registration.versions.iter().map(move |version| (*name, *version)))
        {
            let fits = |row: &&Row| {
                let versions = &row.versions;
                row.types.iter().any(|name| name == type_name)
                    && (versions.is_empty() || versions.iter().any(|named| named == version))
            };
            let Some(row) = rows.iter().find(fits) else {
                wrong.push(format!("{type_name} {version} has no row"));
                continue;
            };
            let asked = asked(registration, type_name, version, row);
            for name in &asked.names {
                if !row.names.contains(&name.to_ascii_lowercase()) {
                    wrong.push(format!(
                        "{type_name} {version} asks for {name}, which its row leaves out"
                    ));
                }
            }
            let elsewhere = asked_elsewhere(type_name);
            for field in &row.fields {
                let same = |name: &str| name.eq_ignore_ascii_case(field);
                if !asked.all
                    && !asked.names.iter().any(|name| same(name))
                    && !elsewhere.iter().any(|name| same(name))
                {
                    wrong.push(format!(
                        "the row of {type_name} {version} has {field}, which nobody asks for"
                    ));
                }
            }
        }
    }
}

#[test]
fn the_page_has_every_field_and_no_other() {
    let rows = rows();
    let mut wrong = Vec::new();
    hold(&crate::state(), &rows, &mut wrong);
    hold(&crate::pubsub(), &rows, &mut wrong);
    hold(&crate::bindings(), &rows, &mut wrong);
    hold(&crate::secret_stores(), &rows, &mut wrong);
    hold(&crate::configuration(), &rows, &mut wrong);
    hold(&crate::lock(), &rows, &mut wrong);
    hold(&crate::crypto(), &rows, &mut wrong);
    hold(&crate::conversation(), &rows, &mut wrong);
    hold(&crate::middleware(), &rows, &mut wrong);
    hold(&crate::name_resolution(), &rows, &mut wrong);
    assert!(wrong.is_empty(), "docs/components.md:\n{}", wrong.join("\n"));
    let registered = super::all();
    for name in rows.iter().flat_map(|row| &row.types) {
        assert!(registered.contains_key(name), "{name} has a row and is no type");
    }
}
