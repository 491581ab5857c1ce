//! Makes an event of what the code answered.

use outrigger_kit::Event;
use serde_json::{Map, Value};

use crate::EngineError;

/// For engines whose code answers JSON: the event that it means. What can be known may be missing from it: the version,
/// an id of its own, the worker as its source, the time, the type of its data.
///
/// # Errors
/// [`EngineError::Failed`] if it is no CloudEvent even so; as a rule it has no `type`.
pub fn answer(said: Value, worker: &str) -> Result<Event<Value>, EngineError> {
    let failed = |why: String| EngineError::Failed(format!("the answer is no event: {why}"));
    let Value::Object(mut map) = said else {
        return Err(failed("not a JSON object".to_owned()));
    };
    let fresh = Event::new("", worker, ());
    fill(&mut map, "specversion", "1.0");
    fill(&mut map, "id", &fresh.id);
    fill(&mut map, "source", worker);
    fill(&mut map, "time", fresh.time.as_deref().unwrap_or_default());
    // The data may be large and needs no check: only what stands around it is written and read again.
    let data = map.remove("data");
    if data.is_some() {
        fill(&mut map, "datacontenttype", "application/json");
        if map.contains_key("data_base64") {
            return Err(failed("there are data and data_base64".to_owned()));
        }
    }
    let body = serde_json::to_vec(&map).map_err(|error| failed(error.to_string()))?;
    let mut event = Event::from_json(&body).map_err(|error| failed(error.to_string()))?;
    if let Some(data) = data {
        event.data = data;
    }
    Ok(event)
}

fn fill(map: &mut Map<String, Value>, name: &str, value: &str) {
    if matches!(map.get(name), None | Some(Value::Null)) {
        map.insert(name.to_owned(), Value::from(value));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_can_be_known_is_filled_in() {
        let event = answer(json!({"type": "mean", "data": 3, "replytopic": "means"}), "w1").unwrap();
        assert_eq!((event.kind.as_str(), event.source.as_str()), ("mean", "w1"));
        assert_eq!(event.data, json!(3));
        assert_eq!(event.extension("replytopic"), Some("means"));
        assert!(event.time.is_some() && !event.id.is_empty());
    }

    #[test]
    fn what_is_said_is_kept() {
        let event = answer(json!({"type": "a", "id": "7", "source": "s"}), "w1").unwrap();
        assert_eq!((event.id.as_str(), event.source.as_str()), ("7", "s"));
    }

    #[test]
    fn an_answer_without_a_type_is_the_codes_fault() {
        let error = answer(json!({"data": 3}), "w1").unwrap_err();
        assert_eq!(error.kind(), "failed");
        assert!(error.to_string().contains("\"type\""), "{error}");
    }
}
