//! The `google.api.http` option of methods, checked against the messages that it speaks of.

use http::Method;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MethodDescriptor, Value};

use crate::template::Template;

/// What carries a request's body.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// No rule: a body is refused, and what the path leaves over comes from the query.
    None,
    /// `*`: the body is the message, but for what the path says.
    Whole,
    /// One field of the message; the others come from path and query.
    Field(FieldDescriptor),
}

/// One way to reach a method over HTTP.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The HTTP method.
    pub http_method: Method,
    /// The path's template.
    pub template: Template,
    /// Where the body goes.
    pub body: Body,
    /// The one field of the answer that is the HTTP body; else all of it is.
    pub response_body: Option<FieldDescriptor>,
    /// The gRPC method.
    pub method: MethodDescriptor,
}

/// A rule that cannot be served, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{method}: {reason}")]
pub struct RuleError {
    /// Full name of the gRPC method.
    pub method: String,
    /// What is wrong.
    pub reason: String,
}

/// The rules of all methods of these services, and those that cannot be served. A name that the pool does not hold
/// has none.
pub(crate) fn rules(pool: &DescriptorPool, services: &[String]) -> (Vec<Rule>, Vec<RuleError>) {
    let mut rules = Vec::new();
    let mut faults = Vec::new();
    let Some(extension) = pool.get_extension_by_name("google.api.http") else {
        return (rules, faults);
    };
    for name in services {
        let Some(service) = pool.get_service_by_name(name) else {
            continue;
        };
        for method in service.methods() {
            let options = method.options();
            if !options.has_extension(&extension) {
                continue;
            }
            let value = options.get_extension(&extension);
            let Some(message) = value.as_message() else {
                continue;
            };
            if let Err(reason) = read(&method, message, true, &mut rules) {
                faults.push(RuleError {
                    method: method.full_name().to_owned(),
                    reason,
                });
            }
        }
    }
    (rules, faults)
}

fn read(
    method: &MethodDescriptor,
    rule: &DynamicMessage,
    outermost: bool,
    rules: &mut Vec<Rule>,
) -> Result<(), String> {
    if method.is_client_streaming() {
        return Err("a stream of requests has no form in HTTP".to_owned());
    }
    let (http_method, path) = pattern(rule)?;
    let template = Template::parse(&path).map_err(|error| error.to_string())?;
    for variable in template.variables() {
        let field = resolve(method.input(), variable)?;
        if field.is_list() || field.is_map() || matches!(field.kind(), Kind::Message(_)) {
            return Err(format!(
                "the path variable {} is no single value",
                variable.join(".")
            ));
        }
    }
    let body =
        match text(rule, "body").as_str() {
            "" => Body::None,
            "*" => Body::Whole,
            name => Body::Field(method.input().get_field_by_name(name).ok_or_else(|| {
                format!("the body's field {name} is not in {}", method.input().full_name())
            })?),
        };
    let response_body = match text(rule, "response_body").as_str() {
        "" => None,
        name => Some(method.output().get_field_by_name(name).ok_or_else(|| {
            format!(
                "the answer's field {name} is not in {}",
                method.output().full_name()
            )
        })?),
    };
    rules.push(Rule {
        http_method,
        template,
        body,
        response_body,
        method: method.clone(),
    });
    let more = rule.get_field_by_name("additional_bindings");
    for rule in more.as_deref().and_then(Value::as_list).unwrap_or_default() {
        if !outermost {
            return Err("an additional binding has additional bindings".to_owned());
        }
        if let Some(rule) = rule.as_message() {
            read(method, rule, false, rules)?;
        }
    }
    Ok(())
}

fn pattern(rule: &DynamicMessage) -> Result<(Method, String), String> {
    for (name, method) in [
        ("get", Method::GET),
        ("put", Method::PUT),
        ("post", Method::POST),
        ("delete", Method::DELETE),
        ("patch", Method::PATCH),
    ] {
        if rule.has_field_by_name(name) {
            return Ok((method, text(rule, name)));
        }
    }
    let custom = rule
        .has_field_by_name("custom")
        .then(|| rule.get_field_by_name("custom"))
        .flatten();
    let custom = custom
        .as_deref()
        .and_then(Value::as_message)
        .ok_or("the rule names no HTTP method")?;
    let kind = text(custom, "kind");
    let method = Method::from_bytes(kind.as_bytes()).map_err(|_| format!("{kind:?} is no HTTP method"))?;
    Ok((method, text(custom, "path")))
}

fn text(message: &DynamicMessage, field: &str) -> String {
    message
        .get_field_by_name(field)
        .as_deref()
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// Follows a path of field names (or JSON names) through messages.
pub(crate) fn resolve<S: AsRef<str>>(
    mut message: prost_reflect::MessageDescriptor,
    path: &[S],
) -> Result<FieldDescriptor, String> {
    let mut found = None;
    for (index, name) in path.iter().enumerate() {
        let name = name.as_ref();
        let field =
            field(&message, name).ok_or_else(|| format!("{} has no field {name:?}", message.full_name()))?;
        if index + 1 < path.len() {
            match field.kind() {
                Kind::Message(inner) if !field.is_list() && !field.is_map() => message = inner,
                _ => return Err(format!("{name:?} is no single message")),
            }
        }
        found = Some(field);
    }
    found.ok_or_else(|| "a field path is empty".to_owned())
}

/// A field by either of its names.
pub(crate) fn field(message: &prost_reflect::MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    message
        .get_field_by_name(name)
        .or_else(|| message.get_field_by_json_name(name))
}
