//! Language models behind a conversation component.

use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::{Call, Client, decode, name};
use crate::Error;

impl Client {
    /// Says `text` to a conversation component, after `instructions` in the system's role, and returns the text of
    /// its first answer. It is not repeated by itself: a model's answer costs money.
    ///
    /// # Errors
    /// [`Error::NotFound`] without such a component; those of the sidecar.
    pub async fn converse(&self, component: &str, instructions: &str, text: &str) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Body {
            #[serde(default)]
            outputs: Vec<Output>,
        }
        #[derive(Deserialize)]
        struct Output {
            #[serde(default)]
            choices: Vec<Choice>,
        }
        #[derive(Deserialize)]
        struct Choice {
            #[serde(default)]
            message: Message,
        }
        #[derive(Deserialize, Default)]
        struct Message {
            #[serde(default)]
            content: String,
        }
        let body = json!({"inputs": [{"messages": [
            {"ofSystem": {"content": [{"text": instructions}]}},
            {"ofUser": {"content": [{"text": text}]}},
        ]}]});
        let path = format!(
            "/v1.0-alpha2/conversation/{}/converse",
            name("conversation component", component)?
        );
        let answer = self.call(Call::new(Method::POST, path).json(&body)?).await?;
        let body: Body = decode("the conversation's answer", &answer.body)?;
        let last = body.outputs.into_iter().next_back();
        Ok(last
            .and_then(|output| output.choices.into_iter().next())
            .map(|choice| choice.message.content)
            .unwrap_or_default())
    }
}
