//! CEL content rules that choose the route of an event.
//!
//! A subscription carries rules in order; the first whose `match` is true, or that has none, gives the path (A2.2,
//! upstream `pkg/runtime/subscription`, `matchRoutingRule`). Nothing here parses events or talks to anyone.

use std::sync::Arc;

use outrigger_engine_expr::{CompileError, Compiler, EvalError, Expr, Outcome};

/// A rule that cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RuleError(#[from] CompileError);

/// A rule that cannot decide about an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The expression failed.
    #[error("{0}")]
    Eval(#[from] EvalError),
    /// The expression is not a condition.
    #[error("the result of match expression {0} was not a boolean")]
    NotBoolean(String),
}

/// Where an event goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    /// To the path of the rule with this index.
    Path {
        /// Position of the rule in its subscription.
        index: usize,
        /// The rule's path; empty for the default handler of a gRPC app.
        path: &'a str,
    },
    /// To nobody: the event is dropped, or goes to the dead letter topic.
    NoMatch,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    condition: Option<Expr>,
    path: Arc<str>,
}

/// The rules of one subscription in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules(Vec<Rule>);

impl Rules {
    /// Every event goes to one path.
    #[must_use]
    pub fn single(path: &str) -> Self {
        Self(vec![Rule {
            condition: None,
            path: path.into(),
        }])
    }

    /// Compiles `(match, path)` pairs; a blank `match` matches always, so a default path is a last pair with an
    /// empty condition.
    ///
    /// # Errors
    /// When a condition is not valid CEL or calls a function that does not exist.
    pub fn compile<'a>(rules: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, RuleError> {
        let mut compiler = None;
        rules
            .into_iter()
            .map(|(condition, path)| {
                let condition = condition.trim();
                let condition = if condition.is_empty() {
                    None
                } else {
                    Some(compiler.get_or_insert_with(Compiler::new).compile(condition)?)
                };
                Ok(Rule {
                    condition,
                    path: path.into(),
                })
            })
            .collect::<Result<_, CompileError>>()
            .map(Self)
            .map_err(RuleError)
    }

    /// How many rules there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no rule at all, so that nothing matches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each rule's condition and path, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Option<&str>, &str)> {
        self.0
            .iter()
            .map(|rule| (rule.condition.as_ref().map(Expr::source), &*rule.path))
    }

    /// The answer when it does not depend on the event, so the event need not be decoded.
    #[must_use]
    pub fn constant(&self) -> Option<Route<'_>> {
        match self.0.first() {
            None => Some(Route::NoMatch),
            Some(rule) if rule.condition.is_none() => Some(Route::Path {
                index: 0,
                path: &rule.path,
            }),
            Some(_) => None,
        }
    }

    /// Chooses the route of an event, which the conditions see as the variable `event`.
    ///
    /// # Errors
    /// When a condition before the matching rule fails or is not boolean.
    pub fn route(&self, event: &serde_json::Value) -> Result<Route<'_>, RouteError> {
        for (index, rule) in self.0.iter().enumerate() {
            let matched = match &rule.condition {
                None => true,
                Some(condition) => match condition.eval_json("event", event)? {
                    Outcome::Bool(matched) => matched,
                    Outcome::Other => return Err(RouteError::NotBoolean(condition.source().to_owned())),
                },
            };
            if matched {
                return Ok(Route::Path {
                    index,
                    path: &rule.path,
                });
            }
        }
        Ok(Route::NoMatch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn first_true_rule_wins_and_the_blank_one_is_the_default() {
        let rules = Rules::compile([
            (r#"event.type == "v3""#, "/three"),
            (r#" event.type == "v2" "#, "/two"),
            ("", "/rest"),
        ])
        .unwrap();
        let path = |kind: &str| rules.route(&json!({"type": kind}));
        assert_eq!(
            path("v3"),
            Ok(Route::Path {
                index: 0,
                path: "/three"
            })
        );
        assert_eq!(
            path("v2"),
            Ok(Route::Path {
                index: 1,
                path: "/two"
            })
        );
        assert_eq!(
            path("v1"),
            Ok(Route::Path {
                index: 2,
                path: "/rest"
            })
        );
        assert_eq!(rules.constant(), None);
    }

    #[test]
    fn no_rules_and_single_paths_need_no_event() {
        assert_eq!(Rules::default().constant(), Some(Route::NoMatch));
        assert_eq!(Rules::default().route(&json!({})), Ok(Route::NoMatch));
        assert_eq!(
            Rules::single("/a").constant(),
            Some(Route::Path { index: 0, path: "/a" })
        );
    }

    #[test]
    fn rules_are_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Rules>();
    }

    #[test]
    fn nothing_matches() {
        let rules = Rules::compile([(r#"event.type == "v3""#, "/three")]).unwrap();
        assert_eq!(rules.route(&json!({"type": "v1"})), Ok(Route::NoMatch));
    }

    #[test]
    fn mistakes() {
        assert!(Rules::compile([("nope(event)", "/")]).is_err());
        let rules = Rules::compile([("event.type", "/")]).unwrap();
        assert_eq!(
            rules.route(&json!({"type": "v1"})).unwrap_err().to_string(),
            "the result of match expression event.type was not a boolean"
        );
        assert!(rules.route(&json!("raw text")).is_err());
    }
}
