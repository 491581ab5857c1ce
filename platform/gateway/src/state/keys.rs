//! A service's keys in a store that all services share.
//!
//! A key that begins with its service's name and a dot, as those of R6 do (`workmanager.worker.7`), stands for itself;
//! any other is `<service>/<key>`. Names of services have neither dots nor slashes, so no two services' keys meet, and
//! no two keys of one service either.

use tonic::Status;

use crate::services::is_name;

/// Bytes of a key.
const MAX_KEY: usize = 1_024;

/// The stored key.
///
/// # Errors
/// `INVALID_ARGUMENT` for a name or key that cannot be.
pub(crate) fn stored(service: &str, key: &str) -> Result<String, Status> {
    check_service(service)?;
    if key.is_empty() || key.len() > MAX_KEY {
        return Err(Status::invalid_argument(format!(
            "a key has 1 to {MAX_KEY} bytes"
        )));
    }
    // The sidecar puts the app's id and these two before a key.
    if key.contains("||") {
        return Err(Status::invalid_argument("a key has no ||"));
    }
    let own = key
        .strip_prefix(service)
        .is_some_and(|rest| rest.starts_with('.'));
    Ok(if own {
        key.to_owned()
    } else {
        format!("{service}/{key}")
    })
}

/// The record of a service's registered keys: out of reach of services, whose stored keys begin with a letter, a digit,
/// `-` or `_`.
pub(crate) fn registry(service: &str) -> Result<String, Status> {
    check_service(service)?;
    Ok(format!(".keys.{service}"))
}

fn check_service(service: &str) -> Result<(), Status> {
    if is_name(service) {
        Ok(())
    } else {
        Err(Status::invalid_argument(
            "service is the caller's own name: 1 to 63 letters, digits, - and _",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_services_do_not_meet() {
        let pairs = [
            ("a", "x"),
            ("a", "a.x"),
            ("a", "a/x"),
            ("a", "a"),
            ("a", "b.x"),
            ("b", "x"),
            ("b", "b.x"),
            ("b", "a.x"),
            ("b", "a/x"),
            ("a-b", "x"),
            ("gateway", "keys//a"),
        ];
        let mut stored: Vec<String> = pairs
            .iter()
            .map(|(service, key)| super::stored(service, key).unwrap())
            .collect();
        stored.push(registry("a").unwrap());
        stored.push(registry("b").unwrap());
        let mut unique = stored.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), stored.len(), "{stored:?}");
        assert_eq!(
            super::stored("workmanager", "workmanager.worker.7").unwrap(),
            "workmanager.worker.7"
        );
        assert_eq!(
            super::stored("trading", "sc.LIVE.trading.order.1").unwrap(),
            "trading/sc.LIVE.trading.order.1"
        );
    }

    #[test]
    fn what_could_be_mistaken_is_refused() {
        for (service, key) in [("", "x"), ("a.b", "x"), ("a/b", "x"), ("a", ""), ("a", "x||y")] {
            assert!(stored(service, key).is_err(), "{service:?} {key:?}");
        }
        assert!(stored("a", &"k".repeat(MAX_KEY + 1)).is_err());
        assert!(registry("a/b").is_err());
    }
}
