//! The API token (B5; upstream `pkg/api/grpc/auth.go`): asked of every call, proxied ones included.

use http::{HeaderMap, HeaderName};
use outrigger_component::SecretString;
use outrigger_sidecar_invocation::status_from_http;
use tonic::Status;

const TOKEN: HeaderName = HeaderName::from_static("dapr-api-token");

/// Checks the token of a call and takes it out, so that it goes nowhere else.
pub(crate) fn check(wanted: &SecretString, headers: &mut HeaderMap) -> Result<(), Status> {
    let refusal = match headers.remove(&TOKEN) {
        None => "missing api token in request metadata",
        Some(given) if equal(given.as_bytes(), wanted.expose().as_bytes()) => return Ok(()),
        Some(_) => "authentication error: api token mismatch",
    };
    Err(status_from_http(401, refusal.as_bytes()).unwrap_or_else(|| Status::unauthenticated("Unauthorized")))
}

/// In a time that does not tell where they differ.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (x, y)| difference | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::StatusExt as _;

    #[test]
    fn refusals_carry_upstreams_details() {
        let wanted = SecretString::from("secret");
        let mut headers = HeaderMap::new();
        let status = check(&wanted, &mut headers).unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (tonic::Code::Unauthenticated, "Unauthorized")
        );
        let info = status.get_details_error_info().unwrap();
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("Unauthorized", "dapr.io")
        );
        assert_eq!(info.metadata["http.code"], "401");
        assert_eq!(
            info.metadata["http.error_message"],
            "missing api token in request metadata"
        );
        headers.insert(TOKEN, "wrong".parse().unwrap());
        let info = check(&wanted, &mut headers)
            .unwrap_err()
            .get_details_error_info()
            .unwrap();
        assert_eq!(
            info.metadata["http.error_message"],
            "authentication error: api token mismatch"
        );
        headers.insert(TOKEN, "secret".parse().unwrap());
        check(&wanted, &mut headers).unwrap();
        assert!(headers.is_empty());
    }
}
