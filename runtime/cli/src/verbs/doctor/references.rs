//! What resources say about each other: names that lead nowhere.

use std::collections::BTreeSet;

use outrigger_components::Category;
use outrigger_resources::{
    Survey,
    configuration::{Configuration, PipelineSpec},
    kinds::{Component, Origin, Resiliency, Resource, Subscription},
};

use super::finding::{Finding, nearest};

const CHECK: &str = "references";

/// Looks at all references. `apps` are the app ids that are known; without any, scopes are not judged.
pub(super) fn check(
    survey: &Survey,
    configurations: &[Configuration],
    apps: &BTreeSet<String>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for subscription in &survey.subscriptions {
        subscribed(subscription, &survey.components, &mut findings);
    }
    for resiliency in &survey.resiliencies {
        policies(resiliency, survey, apps, &mut findings);
    }
    for configuration in configurations.iter().chain(&survey.configurations) {
        configured(configuration, &survey.components, &mut findings);
    }
    for component in &survey.components {
        outbox(component, &survey.components, &mut findings);
    }
    if !apps.is_empty() {
        scopes(&survey.components, apps, &mut findings);
        scopes(&survey.subscriptions, apps, &mut findings);
        scopes(&survey.http_endpoints, apps, &mut findings);
        scopes(&survey.resiliencies, apps, &mut findings);
    }
    findings
}

fn of_block(components: &[Component], category: Category) -> impl Iterator<Item = &str> {
    components
        .iter()
        .filter(move |component| Category::of(&component.spec.r#type) == Some(category))
        .map(|component| component.name())
}

/// A cure that names what is near, or what there is.
fn instead<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    match nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean {near}?"),
        None if known.is_empty() => "there is none at all".to_owned(),
        None => format!("there are: {}", known.join(", ")),
    }
}

fn subscribed(subscription: &Subscription, components: &[Component], findings: &mut Vec<Finding>) {
    let origin = subscription.meta.origin.as_ref();
    let (name, spec) = (subscription.name(), &subscription.spec);
    if !of_block(components, Category::PubSub).any(|pubsub| pubsub == spec.pubsub_name) {
        findings.push(
            Finding::error(
                CHECK,
                format!("{name}: there is no pub/sub component {:?}", spec.pubsub_name),
            )
            .cure(instead(&spec.pubsub_name, of_block(components, Category::PubSub)))
            .at(origin),
        );
    }
    if spec.topic.is_empty() {
        findings.push(
            Finding::error(CHECK, format!("{name}: no topic"))
                .cure("add spec.topic")
                .at(origin),
        );
    }
    if spec.routes.default.is_empty() && spec.routes.rules.iter().all(|rule| rule.path.is_empty()) {
        findings.push(
            Finding::warning(CHECK, format!("{name}: no route, so nothing is delivered"))
                .cure("add spec.routes.default, the path of your handler")
                .at(origin),
        );
    }
    if !spec.topic.is_empty() && spec.dead_letter_topic == spec.topic {
        findings.push(
            Finding::warning(
                CHECK,
                format!("{name}: its dead letters go to the topic they come from"),
            )
            .cure("choose another deadLetterTopic")
            .at(origin),
        );
    }
}

fn policies(resiliency: &Resiliency, survey: &Survey, apps: &BTreeSet<String>, findings: &mut Vec<Finding>) {
    let origin = resiliency.meta.origin.as_ref();
    let (name, spec) = (resiliency.name(), &resiliency.spec);
    let defined = &spec.policies;
    let mut used = |target: String, timeout: &str, retry: &str, breaker: &str| {
        let lists: [(&str, &str, Vec<&str>); 3] = [
            (
                "timeout",
                timeout,
                defined.timeouts.keys().map(String::as_str).collect(),
            ),
            (
                "retry",
                retry,
                defined.retries.keys().map(String::as_str).collect(),
            ),
            (
                "circuitBreaker",
                breaker,
                defined.circuit_breakers.keys().map(String::as_str).collect(),
            ),
        ];
        for (kind, wanted, known) in lists {
            if wanted.is_empty() || known.contains(&wanted) {
                continue;
            }
            findings.push(
                Finding::error(
                    CHECK,
                    format!("{name}: {target} uses the {kind} {wanted:?}, which is not defined"),
                )
                .cure(instead(wanted, known.into_iter()))
                .at(origin),
            );
        }
    };
    for (app, names) in &spec.targets.apps {
        used(
            format!("app {app}"),
            &names.timeout,
            &names.retry,
            &names.circuit_breaker,
        );
    }
    for (actor, names) in &spec.targets.actors {
        used(
            format!("actor {actor}"),
            &names.timeout,
            &names.retry,
            &names.circuit_breaker,
        );
    }
    for (component, names) in &spec.targets.components {
        for policy in [&names.inbound, &names.outbound] {
            used(
                format!("component {component}"),
                &policy.timeout,
                &policy.retry,
                &policy.circuit_breaker,
            );
        }
    }
    for target in spec.targets.components.keys() {
        let mut known = survey.components.iter().map(|component| component.name());
        if !known.any(|known| known == target) {
            findings.push(
                Finding::warning(
                    CHECK,
                    format!("{name}: there is no component {target:?} for its policies"),
                )
                .cure(instead(
                    target,
                    survey.components.iter().map(|component| component.name()),
                ))
                .at(origin),
            );
        }
    }
    for target in spec.targets.apps.keys() {
        let endpoint = survey
            .http_endpoints
            .iter()
            .any(|endpoint| endpoint.name() == target);
        if !apps.is_empty() && !apps.contains(target) && !endpoint {
            findings.push(
                Finding::warning(CHECK, format!("{name}: no app known here is {target:?}"))
                    .cure(instead(target, apps.iter().map(String::as_str)))
                    .at(origin),
            );
        }
    }
}

fn configured(configuration: &Configuration, components: &[Component], findings: &mut Vec<Finding>) {
    let origin = configuration.meta.origin.as_ref();
    let spec = &configuration.spec;
    let at = |finding: Finding| match origin {
        Some(Origin { file, line }) => finding.in_file(file, *line),
        None => finding,
    };
    let pipelines: [(&str, &Option<PipelineSpec>); 2] = [
        ("httpPipeline", &spec.http_pipeline),
        ("appHttpPipeline", &spec.app_http_pipeline),
    ];
    for (field, pipeline) in pipelines {
        for handler in pipeline.iter().flat_map(|pipeline| &pipeline.handlers) {
            if !of_block(components, Category::Middleware).any(|name| name == handler.name) {
                let text = format!("{field}: there is no middleware component {:?}", handler.name);
                let cure = instead(&handler.name, of_block(components, Category::Middleware));
                findings.push(at(Finding::error(CHECK, text).cure(cure)));
            }
        }
    }
    for scope in spec.secrets.iter().flat_map(|secrets| &secrets.scopes) {
        if !of_block(components, Category::SecretStores).any(|name| name == scope.store_name) {
            let text = format!(
                "secrets: there is no secret store {:?} for this scope",
                scope.store_name
            );
            let cure = instead(&scope.store_name, of_block(components, Category::SecretStores));
            findings.push(at(Finding::warning(CHECK, text).cure(cure)));
        }
    }
}

/// The broker of a state store's outbox.
fn outbox(component: &Component, components: &[Component], findings: &mut Vec<Finding>) {
    if Category::of(&component.spec.r#type) != Some(Category::State) {
        return;
    }
    for pair in &component.spec.metadata {
        let value = pair.value.text();
        let is_broker = ["outboxPublishPubsub", "outboxPubsub"].contains(&pair.name.as_str());
        if is_broker && !value.is_empty() && !of_block(components, Category::PubSub).any(|name| name == value)
        {
            findings.push(
                Finding::error(
                    CHECK,
                    format!("{}: there is no pub/sub component {value:?}", component.name()),
                )
                .cure(instead(&value, of_block(components, Category::PubSub)))
                .at_setting(component.meta.origin.as_ref(), &pair.name),
            );
        }
    }
}

/// Resources that no known app gets.
fn scopes<T: Resource>(resources: &[T], apps: &BTreeSet<String>, findings: &mut Vec<Finding>) {
    for resource in resources {
        let scopes = resource.scopes();
        if scopes.is_empty() || scopes.iter().any(|scope| apps.contains(scope)) {
            continue;
        }
        let text = format!(
            "the {} {:?} is scoped to {}, which no app known here is",
            T::KIND,
            resource.name(),
            scopes.join(", ")
        );
        let known = || apps.iter().map(String::as_str);
        let near = scopes.iter().find_map(|scope| nearest(scope, known()));
        let cure = match near {
            Some(near) => format!("did you mean {near}?"),
            None => format!("known are: {}", known().collect::<Vec<_>>().join(", ")),
        };
        findings.push(
            Finding::warning(CHECK, text)
                .cure(cure)
                .at(resource.meta().origin.as_ref()),
        );
    }
}
