//! CEL expressions compiled at load, with undeclared identifiers dynamic as in Dapr.
//!
//! Dapr (`pkg/expr`) declares every identifier it meets as a dynamic variable and lets cel-go check the rest, so an
//! unknown function is refused at load and a missing variable fails the evaluation. This crate gives the two users
//! of it, content routing and the trip condition of circuit breakers, the same contract on the `cel` crate, which
//! by itself would find an unknown function only when it runs. It does not type-check further than that.

mod value;

use std::{fmt, sync::Arc};

use cel::{Context, Env, Program};

/// An expression that cannot be compiled; the text follows cel-go's shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CompileError(String);

/// An expression that failed while it ran.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EvalError(String);

/// What an expression came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A boolean.
    Bool(bool),
    /// Anything else, which every user of this crate treats as a mistake.
    Other,
}

/// Names callable in cel-go's standard environment (v0.20, without extensions); operators are always allowed.
const FUNCTIONS: &[&str] = &[
    "bool",
    "bytes",
    "contains",
    "double",
    "duration",
    "dyn",
    "endsWith",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "int",
    "matches",
    "size",
    "startsWith",
    "string",
    "timestamp",
    "type",
    "uint",
];

/// Compiles expressions against the standard environment, which they share.
#[derive(Clone)]
pub struct Compiler(Arc<Env>);

impl Compiler {
    /// A compiler for the standard functions and macros.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Env::stdlib().with_optional_support(false)))
    }

    /// Compiles an expression.
    ///
    /// # Errors
    /// On a syntax error, and on a function that the standard environment does not know.
    pub fn compile(&self, source: &str) -> Result<Expr, CompileError> {
        let program = self
            .0
            .compile(source)
            .map_err(|error| CompileError(error.to_string()))?;
        {
            let references = program.references();
            let mut unknown: Vec<&str> = references
                .functions()
                .into_iter()
                .filter(|name| !is_known_function(name))
                .collect();
            unknown.sort_unstable();
            if let Some(name) = unknown.first() {
                return Err(CompileError(format!(
                    "ERROR: <input>: undeclared reference to '{name}' (in container '') in {source:?}"
                )));
            }
        }
        Ok(Expr {
            source: source.into(),
            program: Arc::new(program),
            env: Arc::clone(&self.0),
        })
    }
}

impl Default for Compiler {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Compiler")
    }
}

/// Operators are spelled `_+_`, `!_`, `_?_:_`, `@in` and the like inside the tree.
fn is_known_function(name: &str) -> bool {
    FUNCTIONS.binary_search(&name).is_ok() || name.contains('_') && is_operator(name) || name.starts_with('@')
}

fn is_operator(name: &str) -> bool {
    !name.bytes().any(|b| b.is_ascii_alphanumeric())
}

/// A compiled expression; cheap to clone, and usable from several threads.
#[derive(Clone)]
pub struct Expr {
    source: Arc<str>,
    program: Arc<Program>,
    env: Arc<Env>,
}

impl Expr {
    /// The text it was compiled from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Runs it with one variable that holds a JSON value. Numbers become doubles, as they are when Go decodes JSON
    /// into `any`.
    ///
    /// # Errors
    /// When a value it needs is missing or of a type its functions do not take.
    pub fn eval_json(&self, name: &str, value: &serde_json::Value) -> Result<Outcome, EvalError> {
        let mut context = Context::with_env(Arc::clone(&self.env));
        context.add_variable_from_value(name, value::from_json(value));
        self.run(&context)
    }

    /// Runs it with integer variables.
    ///
    /// # Errors
    /// As [`Expr::eval_json`].
    pub fn eval_ints(&self, variables: &[(&str, i64)]) -> Result<Outcome, EvalError> {
        let mut context = Context::with_env(Arc::clone(&self.env));
        for (name, value) in variables {
            context.add_variable_from_value(*name, *value);
        }
        self.run(&context)
    }

    fn run(&self, context: &Context<'_, '_>) -> Result<Outcome, EvalError> {
        match self.program.execute(context) {
            Ok(cel::Value::Bool(value)) => Ok(Outcome::Bool(value)),
            Ok(_) => Ok(Outcome::Other),
            Err(error) => Err(EvalError(error.to_string())),
        }
    }
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expr").field(&self.source).finish()
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Expr {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn eval(source: &str, event: &serde_json::Value) -> Result<Outcome, EvalError> {
        Compiler::new().compile(source).unwrap().eval_json("event", event)
    }

    #[test]
    fn functions_are_sorted() {
        assert!(FUNCTIONS.is_sorted());
    }

    #[test]
    fn rules_over_an_event() {
        let event = json!({
            "type": "order.v2", "id": "1",
            "data": {"amount": 150, "price": 1.5, "tags": ["a", "b"], "customer": {"name": "x"}, "none": null},
        });
        for (source, expected) in [
            (r#"event.type == "order.v2""#, true),
            (r#"event.type == "order.v1""#, false),
            ("event.data.amount > 100", true),
            ("event.data.amount == 150", true),
            ("event.data.amount >= 150.5", false),
            ("event.data.price < 2", true),
            (
                r#"event.type.startsWith("order") && event.data.amount < 200"#,
                true,
            ),
            (r#"event.type.matches("^order\\.v[0-9]$")"#, true),
            (r#""a" in event.data.tags"#, true),
            (r#"event.data.tags.exists(t, t == "c")"#, false),
            ("has(event.data.customer)", true),
            ("has(event.data.nothing)", false),
            ("size(event.data.tags) == 2", true),
            ("event.data.none == null", true),
            (r#"event["data"]["customer"].name == "x""#, true),
            ("int(event.data.amount) % 2 == 0", true),
            (r#"event.id == "1" ? true : false"#, true),
        ] {
            assert_eq!(eval(source, &event), Ok(Outcome::Bool(expected)), "{source}");
        }
        assert_eq!(eval("event.data.amount", &event), Ok(Outcome::Other));
        assert!(eval("event.data.missing == 1", &event).is_err());
        assert!(
            eval("other == 1", &event).is_err(),
            "an undeclared variable fails when it runs"
        );
    }

    #[test]
    fn refuses_at_load() {
        let compiler = Compiler::new();
        for source in [
            "event.type ==",
            "foo(event)",
            "event.lowerAscii() == \"x\"",
            "max(1, 2) > 1",
            ")",
            "optional.of(1)",
        ] {
            assert!(compiler.compile(source).is_err(), "{source}");
        }
        assert!(
            compiler
                .compile("frobnicate(event)")
                .unwrap_err()
                .to_string()
                .contains("undeclared reference to 'frobnicate'")
        );
    }

    #[test]
    fn integers() {
        let trip = Compiler::new()
            .compile("consecutiveFailures > 5 || totalFailures * 2 >= requests")
            .unwrap();
        let eval = |failures, total, requests| {
            trip.eval_ints(&[
                ("consecutiveFailures", failures),
                ("totalFailures", total),
                ("requests", requests),
            ])
        };
        assert_eq!(eval(6, 0, 10), Ok(Outcome::Bool(true)));
        assert_eq!(eval(1, 2, 10), Ok(Outcome::Bool(false)));
        assert_eq!(eval(1, 5, 10), Ok(Outcome::Bool(true)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn compiling_never_panics(source in "[a-z.()\"'=<>!&|+*\\[\\]{}?:,0-9 \\\\é]{0,24}") {
            let _ = Compiler::new().compile(&source);
        }
    }
}
