//! Matches method and escaped path to an endpoint, with the rules of the router that Dapr's clients know: a literal
//! segment wins over a placeholder, a placeholder over the rest-of-path; if the deeper match fails, the next kind is
//! tried.

use std::{collections::HashMap, sync::Arc};

use http::Method;
use outrigger_sidecar_api::{Endpoint, Params};

#[derive(Debug, Default)]
struct Node {
    literals: HashMap<&'static str, Node>,
    placeholder: Option<(&'static str, Box<Node>)>,
    rest: Vec<Arc<Endpoint>>,
    here: Vec<Arc<Endpoint>>,
}

/// The endpoints of a server.
#[derive(Debug, Default)]
pub struct Router {
    root: Node,
    fallback: Option<Arc<Endpoint>>,
}

/// What a request matched.
#[derive(Debug)]
pub struct Match {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// Placeholder values, still escaped.
    pub params: Params,
    /// Whether the endpoint serves it as the fallback only.
    pub fallback: bool,
}

impl Router {
    /// A router of these endpoints. Of equal routes the later one wins.
    #[must_use]
    pub fn new(endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        let mut router = Self::default();
        for endpoint in endpoints {
            let endpoint = Arc::new(endpoint);
            if endpoint.fallback {
                router.fallback = Some(Arc::clone(&endpoint));
            }
            let mut node = &mut router.root;
            let mut ends_in_rest = false;
            for segment in endpoint.version.split('/').chain(endpoint.route.split('/')) {
                if segment == "*" {
                    ends_in_rest = true;
                } else if let Some(name) = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) {
                    // One name per place: upstream never gives two.
                    node = &mut node.placeholder.get_or_insert_with(|| (name, Box::default())).1;
                } else {
                    node = node.literals.entry(segment).or_default();
                }
            }
            let leaves = if ends_in_rest {
                &mut node.rest
            } else {
                &mut node.here
            };
            leaves.insert(0, endpoint);
        }
        router
    }

    /// Finds the endpoint of a cleaned, escaped path. `None` when nothing matches and there is no fallback.
    #[must_use]
    pub fn find(&self, method: &Method, path: &str) -> Option<Match> {
        let mut params = Params::default();
        let path = path.strip_prefix('/').unwrap_or(path);
        let mut values: Vec<(&'static str, &str)> = Vec::new();
        if let Some(endpoint) = step(&self.root, method, path, &mut values) {
            for (name, value) in values {
                params.push(name, value.to_owned());
            }
            return Some(Match {
                endpoint: Arc::clone(endpoint),
                params,
                fallback: false,
            });
        }
        self.fallback.as_ref().map(|endpoint| Match {
            endpoint: Arc::clone(endpoint),
            params,
            fallback: true,
        })
    }
}

fn step<'n, 'p>(
    node: &'n Node,
    method: &Method,
    rest: &'p str,
    values: &mut Vec<(&'static str, &'p str)>,
) -> Option<&'n Arc<Endpoint>> {
    let (segment, deeper) = match rest.split_once('/') {
        Some((segment, deeper)) => (segment, Some(deeper)),
        None => (rest, None),
    };
    if let Some(child) = node.literals.get(segment)
        && let Some(found) = descend(child, method, deeper, values)
    {
        return Some(found);
    }
    if let Some((name, child)) = &node.placeholder
        && !segment.is_empty()
    {
        values.push((name, segment));
        if let Some(found) = descend(child, method, deeper, values) {
            return Some(found);
        }
        values.pop();
    }
    let found = pick(&node.rest, method)?;
    values.push(("*", rest));
    Some(found)
}

fn descend<'n, 'p>(
    node: &'n Node,
    method: &Method,
    rest: Option<&'p str>,
    values: &mut Vec<(&'static str, &'p str)>,
) -> Option<&'n Arc<Endpoint>> {
    match rest {
        None => pick(&node.here, method),
        Some(rest) => step(node, method, rest, values),
    }
}

fn pick<'n>(leaves: &'n [Arc<Endpoint>], method: &Method) -> Option<&'n Arc<Endpoint>> {
    leaves
        .iter()
        .find(|endpoint| endpoint.methods.is_empty() || endpoint.methods.contains(method))
}

#[cfg(test)]
mod tests {
    use super::*;
    use outrigger_sidecar_api::{ApiError, ApiRequest, Body, EndpointHandler, Group};

    struct Nothing;
    impl EndpointHandler for Nothing {
        fn handle(
            &self,
            _: ApiRequest,
        ) -> futures::future::BoxFuture<'static, Result<http::Response<Body>, ApiError>> {
            Box::pin(async { Ok(http::Response::new(Body::Empty)) })
        }
    }

    const GET: &[Method] = &[Method::GET];
    const POST: &[Method] = &[Method::POST, Method::PUT];

    fn endpoint(
        methods: &'static [Method],
        version: &'static str,
        route: &'static str,
        name: &'static str,
    ) -> Endpoint {
        Endpoint::new(
            methods,
            version,
            route,
            Group {
                name: "state",
                version: "v1",
            },
            name,
            Arc::new(Nothing),
        )
    }

    fn router() -> Router {
        let mut invoke = endpoint(&[], "v1.0", "invoke/*", "Invoke");
        invoke.fallback = true;
        Router::new([
            endpoint(GET, "v1.0", "state/{store}/{key}", "GetState"),
            endpoint(POST, "v1.0", "state/{store}", "SaveState"),
            endpoint(POST, "v1.0", "state/{store}/bulk", "Bulk"),
            endpoint(POST, "v1.0", "publish/{pubsub}/*", "Publish"),
            invoke,
        ])
    }

    #[track_caller]
    fn check(method: &Method, path: &str, name: &str, params: &[(&str, &str)]) {
        let found = router().find(method, path).unwrap();
        let label = if found.fallback {
            "fallback"
        } else {
            found.endpoint.name
        };
        assert_eq!(label, name, "{method} {path}");
        for (key, value) in params {
            assert_eq!(found.params.get(key), *value, "{method} {path}");
        }
    }

    #[test]
    fn matches_segments_and_rest() {
        check(
            &Method::GET,
            "/v1.0/state/s/k",
            "GetState",
            &[("store", "s"), ("key", "k")],
        );
        check(&Method::GET, "/v1.0/state/s/bulk", "GetState", &[("key", "bulk")]);
        check(&Method::POST, "/v1.0/state/s/bulk", "Bulk", &[("store", "s")]);
        check(&Method::PUT, "/v1.0/state/s", "SaveState", &[]);
        check(&Method::GET, "/v1.0/state/s", "fallback", &[]);
        check(&Method::GET, "/v1.0/state/s/k/l", "fallback", &[]);
        check(
            &Method::POST,
            "/v1.0/publish/p/a/b/c",
            "Publish",
            &[("pubsub", "p"), ("*", "a/b/c")],
        );
        check(&Method::POST, "/v1.0/publish/p", "fallback", &[]);
        check(
            &Method::POST,
            "/v1.0/invoke/app/method/x/y",
            "Invoke",
            &[("*", "app/method/x/y")],
        );
        check(&Method::POST, "/anything", "fallback", &[]);
    }

    proptest::proptest! {
        #[test]
        fn any_path_finds_something_and_never_panics(path in ".{0,64}") {
            proptest::prop_assert!(router().find(&Method::GET, &path).is_some());
        }
    }
}
