//! Makes an event of what the code answered.

use outrigger_kit::Event;
use outrigger_platform_engine::EngineError;
use serde_json::{Map, Value};

/// An answer is an event without what can be known: the version, an id of its own, the worker as its source, the time.
///
/// # Errors
/// [`EngineError::Failed`] if it is no CloudEvent even so; as a rule it has no `type`.
pub(crate) fn event(answer: Value, worker: &str) -> Result<Event<Value>, EngineError> {
    let failed = |why: String| EngineError::Failed(format!("the answer is no event: {why}"));
    let Value::Object(mut map) = answer else {
        return Err(failed("not a JSON object".to_owned()));
    };
    fill(&mut map, "specversion", || "1.0".to_owned());
    fill(&mut map, "id", || uuid::Uuid::new_v4().to_string());
    fill(&mut map, "source", || worker.to_owned());
    fill(&mut map, "time", || jiff::Timestamp::now().to_string());
    // The data may be large and needs no check: only what stands around it is written and read again.
    let data = map.remove("data");
    if data.is_some() {
        fill(&mut map, "datacontenttype", || "application/json".to_owned());
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

fn fill(map: &mut Map<String, Value>, name: &str, value: impl FnOnce() -> String) {
    if matches!(map.get(name), None | Some(Value::Null)) {
        map.insert(name.to_owned(), Value::from(value()));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_can_be_known_is_filled_in() {
        let answer = event(json!({"type": "mean", "data": 3, "replytopic": "means"}), "w1").unwrap();
        assert_eq!((answer.kind.as_str(), answer.source.as_str()), ("mean", "w1"));
        assert_eq!(answer.data, json!(3));
        assert_eq!(answer.extension("replytopic"), Some("means"));
        assert!(answer.time.is_some() && !answer.id.is_empty());
    }

    #[test]
    fn what_is_said_is_kept() {
        let answer = event(json!({"type": "a", "id": "7", "source": "s"}), "w1").unwrap();
        assert_eq!((answer.id.as_str(), answer.source.as_str()), ("7", "s"));
    }

    #[test]
    fn an_answer_without_a_type_is_the_codes_fault() {
        let error = event(json!({"data": 3}), "w1").unwrap_err();
        assert_eq!(error.kind(), "failed");
        assert!(error.to_string().contains("\"type\""), "{error}");
    }
}
