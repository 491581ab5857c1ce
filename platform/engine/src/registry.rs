//! The engines there are, by content type.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{EngineError, EngineFactory};

/// A table from content type to factory.
#[derive(Debug, Clone, Default)]
pub struct Engines(BTreeMap<&'static str, Arc<dyn EngineFactory>>);

impl Engines {
    /// No engines.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a factory under all its content types; a later one replaces an earlier one.
    #[must_use]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a table of factories that owns them reads better at its callers"
    )]
    pub fn with(mut self, factory: Arc<dyn EngineFactory>) -> Self {
        for mime in factory.mime_types() {
            self.0.insert(mime, factory.clone());
        }
        self
    }

    /// The factory for a content type; letter case and parameters (`; charset=utf-8`) do not matter.
    ///
    /// # Errors
    /// [`EngineError::UnknownType`] with those there are.
    pub fn find(&self, mime: &str) -> Result<&Arc<dyn EngineFactory>, EngineError> {
        let essence = mime
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        self.0
            .get(essence.as_str())
            .ok_or_else(|| EngineError::UnknownType {
                mime: mime.to_owned(),
                known: self.0.keys().copied().collect::<Vec<_>>().join(", "),
            })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::FutureExt as _;
    use futures::future::BoxFuture;
    use outrigger_kit::Event;
    use serde_json::{Value, json};

    use super::*;
    use crate::{Engine, WorkerContext};

    /// An engine of somebody else: the code is a field's name, and the answer holds only that field.
    #[derive(Debug)]
    struct Pick(String);

    #[derive(Debug)]
    struct PickFactory;

    impl EngineFactory for PickFactory {
        fn mime_types(&self) -> &'static [&'static str] {
            &["text/x-pick"]
        }

        fn language(&self) -> &'static str {
            "pick"
        }

        fn load(&self, _: WorkerContext, code: Bytes) -> BoxFuture<'_, Result<Arc<dyn Engine>, EngineError>> {
            let loaded = String::from_utf8(code.to_vec())
                .map(|field| Arc::new(Pick(field)) as Arc<dyn Engine>)
                .map_err(|error| EngineError::Load(error.to_string()));
            std::future::ready(loaded).boxed()
        }
    }

    impl Engine for Pick {
        fn process(&self, event: Event<Value>) -> BoxFuture<'_, Result<Option<Event<Value>>, EngineError>> {
            let picked = event.data.get(&self.0).cloned();
            let answer = picked.map(|data| Event::new("picked", "pick", data));
            std::future::ready(Ok(answer)).boxed()
        }

        fn close(&self) -> BoxFuture<'_, ()> {
            std::future::ready(()).boxed()
        }
    }

    #[tokio::test]
    async fn an_engine_of_others_takes_part() {
        let engines = Engines::new().with(Arc::new(PickFactory));
        let context = WorkerContext {
            id: "1".to_owned(),
            group: None,
            topic: "ticks".to_owned(),
        };
        let factory = engines.find("Text/X-Pick; charset=utf-8").unwrap();
        let engine = factory.load(context, Bytes::from("price")).await.unwrap();
        let event = Event::new("tick", "exchange", json!({"price": 3, "size": 1}));
        let answer = engine.process(event).await.unwrap().unwrap();
        assert_eq!(answer.data, json!(3));
    }

    #[test]
    fn an_unknown_type_is_refused_with_those_there_are() {
        let error = Engines::new()
            .with(Arc::new(PickFactory))
            .find("text/x-cobol")
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "no engine for \"text/x-cobol\"; there are: text/x-pick"
        );
    }
}
