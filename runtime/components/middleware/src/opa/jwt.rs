//! `io.jwt.decode`: looks into a token without believing it. The example that everybody starts from uses it, and
//! regorus has no functions for tokens.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use regorus::Value;

/// Its name in a policy.
pub(super) const DECODE: &str = "io.jwt.decode";

/// `[header, payload, signature in hex]`; undefined where the text is no token, as OPA has it.
#[expect(clippy::needless_pass_by_value, reason = "the shape of an extension")]
pub(super) fn decode(arguments: Vec<Value>) -> anyhow::Result<Value> {
    let parts = match arguments.first() {
        Some(Value::String(token)) => parts(token),
        _ => None,
    };
    Ok(parts.map_or(Value::Undefined, Value::from))
}

fn parts(token: &str) -> Option<Vec<Value>> {
    let mut parts = token.split('.');
    let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let object = |part: &str| {
        let bytes = URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok()?;
        let value: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
        value.is_object().then(|| Value::from(value))
    };
    let signature = URL_SAFE_NO_PAD.decode(signature.trim_end_matches('=')).ok()?;
    let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(vec![object(header)?, object(payload)?, Value::from(hex)])
}
