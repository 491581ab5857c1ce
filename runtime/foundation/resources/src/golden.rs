//! Both dialects against what the real Go libraries made of the same texts.
//!
//! `tests/golden/go-yaml.json` was written by a throw-away Go program over `sigs.k8s.io/yaml` v1.4.0 and
//! `gopkg.in/yaml.v3` v3.0.1, the versions of Dapr 1.18.2: `YAMLToJSON`, `Unmarshal` into `any` (as JSON), and both
//! `Unmarshal`s into the struct below.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    decode::{Decode as _, Decoder, Dialect, decode_fields},
    yaml::{self, Mode},
};

#[derive(Debug, Default, PartialEq)]
struct Typed {
    s: String,
    b: bool,
    i: i32,
    l: Vec<String>,
    m: BTreeMap<String, String>,
}

decode_fields!(Typed { "s" => s, "b" => b, "i" => i, "l" => l, "m" => m });

fn typed(text: &str, dialect: Dialect) -> Option<Typed> {
    let mode = if dialect == Dialect::YamlV3 {
        Mode::YamlV3
    } else {
        Mode::GoYamlV2
    };
    let mut value = Typed::default();
    let mut decoder = Decoder::new(dialect);
    if let Some(node) = yaml::parse(text, mode).ok()? {
        value.decode(&node, &mut decoder);
    }
    decoder.errors.is_empty().then_some(value)
}

fn expected_typed(value: &Value) -> Typed {
    let list = |value: &Value| value.as_array().into_iter().flatten().map(text).collect();
    let map = |value: &Value| {
        value
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.clone(), text(value)))
            .collect()
    };
    fn text(value: &Value) -> String {
        value.as_str().unwrap_or_default().to_owned()
    }
    Typed {
        s: text(&value["s"]),
        b: value["b"] == true,
        i: value["i"].as_i64().unwrap_or_default() as i32,
        l: list(&value["l"]),
        m: map(&value["m"]),
    }
}

/// Texts that `any` under yaml.v3 holds in a Go type of its own (dates, keys that are no texts), which no field of
/// Dapr's Configuration keeps; and a stream that is only an end marker, empty for us and an error for Go.
fn is_known_difference(name: &str, input: &str) -> bool {
    const V3: &[&str] = &[
        "a: 2001-01-01\n",
        "a: 2001-1-1\n",
        "a: 2001-12-14T21:59:43.10-05:00\n",
        "a: 2001-12-14 21:59:43\n",
        "a: !!timestamp 2001-01-01\n",
        "1.0: a\n",
        "0x10: a\n",
        "~: a\n",
        "null: a\n",
        "1000000.0: a\n",
        "-.inf: a\n",
    ];
    input == "...\n" || (name == "yamlV3" && V3.contains(&input))
}

#[test]
fn both_dialects_read_what_go_reads() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("../tests/golden/go-yaml.json")).unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        let input = case["input"].as_str().unwrap();
        for (mode, name) in [(Mode::GoYamlV2, "goYamlV2"), (Mode::YamlV3, "yamlV3")] {
            let ours = yaml::parse_json(input, mode).map(|value| yaml::json_text(&value));
            let refused = case[format!("{name}Error")] == true;
            if is_known_difference(name, input) || (!refused && case[name].is_null()) {
                continue; // or it is not in this half of the table, or not sayable in JSON
            }
            match (&ours, case[name].as_str()) {
                (Err(_), None) if refused => {}
                (Ok(ours), Some(theirs)) if ours == theirs => {}
                (ours, theirs) => wrong.push(format!("{name} {input:?}: {ours:?}, Go: {theirs:?}")),
            }
        }
        for (dialect, name) in [(Dialect::SigsYaml, "typedV2"), (Dialect::YamlV3, "typedV3")] {
            let refused = case[format!("{name}Error")] == true;
            if !refused && case[name].is_null() {
                continue;
            }
            let ours = typed(input, dialect);
            let theirs = (!refused).then(|| expected_typed(&case[name]));
            if ours != theirs {
                wrong.push(format!("{name} {input:?}: {ours:?}, Go: {theirs:?}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} differ:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}
