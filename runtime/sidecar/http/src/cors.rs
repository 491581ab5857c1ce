//! Cross-origin rules of `--allowed-origins`.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

/// Methods that cross-origin callers may use (upstream's list).
const METHODS: [Method; 6] = [
    Method::HEAD,
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
];

/// The origins that may call, any header allowed.
#[derive(Debug, Clone)]
pub struct Cors {
    any: bool,
    exact: Vec<String>,
    wildcards: Vec<(String, String)>,
}

impl Cors {
    /// Reads the flag's value: empty means that there are no cross-origin rules at all, `*` any origin, otherwise a
    /// list whose entries may hold one `*` each.
    #[must_use]
    pub fn parse(allowed_origins: &str) -> Option<Self> {
        if allowed_origins.is_empty() {
            return None;
        }
        let mut cors = Self {
            any: false,
            exact: Vec::new(),
            wildcards: Vec::new(),
        };
        for origin in allowed_origins.split(',') {
            let origin = origin.to_ascii_lowercase();
            if origin == "*" {
                return Some(Self {
                    any: true,
                    exact: Vec::new(),
                    wildcards: Vec::new(),
                });
            }
            match origin.split_once('*') {
                Some((head, tail)) => cors.wildcards.push((head.to_owned(), tail.to_owned())),
                None => cors.exact.push(origin),
            }
        }
        Some(cors)
    }

    /// Whether the request asks for permission only.
    #[must_use]
    pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
        method == Method::OPTIONS
            && headers
                .get(header::ACCESS_CONTROL_REQUEST_METHOD)
                .is_some_and(|value| !value.is_empty())
    }

    /// The headers of the answer to a preflight request, whose status is always 200.
    #[must_use]
    pub fn preflight(&self, request: &HeaderMap) -> HeaderMap {
        let mut answer = HeaderMap::new();
        for name in [
            "Origin",
            "Access-Control-Request-Method",
            "Access-Control-Request-Headers",
        ] {
            answer.append(header::VARY, HeaderValue::from_static(name));
        }
        let (Some(origin), Some(method)) = (
            request.get(header::ORIGIN),
            request.get(header::ACCESS_CONTROL_REQUEST_METHOD),
        ) else {
            return answer;
        };
        let upper = method.to_str().unwrap_or("").to_ascii_uppercase();
        if !self.allows_origin(origin) || !allows_method(&upper) {
            return answer;
        }
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, self.answer_origin(origin));
        if let Ok(methods) = HeaderValue::from_str(&upper) {
            answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        }
        if let Some(names) = request
            .get(header::ACCESS_CONTROL_REQUEST_HEADERS)
            .filter(|value| !value.is_empty())
        {
            answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, canonical_list(names));
        }
        answer
    }

    /// Adds the headers of the answer to an actual request.
    pub fn decorate(&self, method: &Method, request: &HeaderMap, answer: &mut HeaderMap) {
        answer.append(header::VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = request.get(header::ORIGIN)
            && self.allows_origin(origin)
            && allows_method(method.as_str())
        {
            answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, self.answer_origin(origin));
        }
    }

    fn answer_origin(&self, origin: &HeaderValue) -> HeaderValue {
        if self.any {
            HeaderValue::from_static("*")
        } else {
            origin.clone()
        }
    }

    fn allows_origin(&self, origin: &HeaderValue) -> bool {
        let Ok(origin) = origin.to_str() else { return false };
        if origin.is_empty() {
            return false;
        }
        if self.any {
            return true;
        }
        let origin = origin.to_ascii_lowercase();
        self.exact.contains(&origin)
            || self.wildcards.iter().any(|(head, tail)| {
                origin.len() >= head.len() + tail.len() && origin.starts_with(head) && origin.ends_with(tail)
            })
    }
}

fn allows_method(method: &str) -> bool {
    method.eq_ignore_ascii_case("OPTIONS")
        || METHODS
            .iter()
            .any(|allowed| allowed.as_str().eq_ignore_ascii_case(method))
}

/// The asked-for header names, canonical, as one list.
fn canonical_list(names: &HeaderValue) -> HeaderValue {
    let names = names.to_str().unwrap_or("");
    let list: Vec<String> = names
        .split([',', ' '])
        .filter(|name| HeaderName::from_bytes(name.as_bytes()).is_ok())
        .map(|name| {
            let mut upper = true;
            name.chars()
                .map(|c| {
                    let c = if upper {
                        c.to_ascii_uppercase()
                    } else {
                        c.to_ascii_lowercase()
                    };
                    upper = c == '-';
                    c
                })
                .collect()
        })
        .collect();
    HeaderValue::from_str(&list.join(", ")).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(origin: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ORIGIN, origin.parse().unwrap());
        headers.insert(header::ACCESS_CONTROL_REQUEST_METHOD, "get".parse().unwrap());
        headers.insert(
            header::ACCESS_CONTROL_REQUEST_HEADERS,
            "x-one, X-TWO".parse().unwrap(),
        );
        headers
    }

    #[test]
    fn lists_and_wildcards() {
        assert!(Cors::parse("").is_none());
        let cors = Cors::parse("https://a.example,https://*.b.example").unwrap();
        let allowed = |origin| {
            cors.preflight(&asked(origin))
                .get(header::ACCESS_CONTROL_ALLOW_ORIGIN)
                .is_some()
        };
        assert!(allowed("https://A.example"));
        assert!(allowed("https://x.b.example"));
        assert!(!allowed("https://b.example"));
        assert!(!allowed("https://evil.example"));
    }

    #[test]
    fn any_origin_is_answered_with_a_star() {
        let cors = Cors::parse("*").unwrap();
        let answer = cors.preflight(&asked("https://a.example"));
        assert_eq!(answer[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert_eq!(answer[header::ACCESS_CONTROL_ALLOW_METHODS], "GET");
        assert_eq!(answer[header::ACCESS_CONTROL_ALLOW_HEADERS], "X-One, X-Two");
    }
}
