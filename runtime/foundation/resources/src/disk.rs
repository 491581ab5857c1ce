//! Resources from directories (upstream `pkg/internal/loader/disk`, wire.md §19).

use std::{
    collections::HashMap,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::future::BoxFuture;
use outrigger_types::AppId;

use crate::{
    configuration::Configuration,
    decode::{Decode, Decoder, Dialect},
    finding::{Finding, Severity, Warning},
    go,
    kinds::{
        Component, HttpEndpoint, McpServer, ObjectMeta, Origin, Resiliency, Resource, Subscription,
        SubscriptionV1, WorkflowAccessPolicy,
    },
    source::{LoadError, ResourceSource, Resources},
    yaml::{self, Content, Mode, Node},
};

/// Files above this are skipped. (Upstream chokes on documents above 64 KiB; real files are a few KiB.)
pub const MAX_FILE_BYTES: u64 = 16 << 20;

/// What to load, for whom.
#[derive(Debug, Clone)]
pub struct DiskOptions {
    /// The directories (`--resources-path`), in order.
    pub paths: Vec<PathBuf>,
    /// The app; resources with scopes that leave it out are not for it.
    pub app_id: AppId,
    /// The variable `NAMESPACE`; `None` or empty loads all namespaces.
    pub namespace: Option<String>,
}

/// Everything in some directories, whoever it is for: no scopes, no namespaces, repeated names kept. For tools.
#[derive(Debug, Default)]
#[allow(
    missing_docs,
    reason = "one list for each kind, in the order of directory, file and document"
)]
pub struct Survey {
    pub components: Vec<Component>,
    pub subscriptions: Vec<Subscription>,
    pub http_endpoints: Vec<HttpEndpoint>,
    pub resiliencies: Vec<Resiliency>,
    pub configurations: Vec<Configuration>,
    pub mcp_servers: Vec<McpServer>,
    pub workflow_access_policies: Vec<WorkflowAccessPolicy>,
    /// What was skipped or suspicious.
    pub warnings: Vec<Warning>,
    /// The directories that cannot be read.
    pub unreadable: Vec<LoadError>,
}

/// Reads all resource files of directories without choosing; blocks on the file system. Every resource knows its
/// origin.
#[must_use]
pub fn survey(directories: &[PathBuf]) -> Survey {
    let mut found = Found::default();
    let mut unreadable = Vec::new();
    for directory in directories {
        unreadable.extend(found.read_directory(directory).err());
    }
    Survey {
        components: found.components,
        subscriptions: found.subscriptions,
        http_endpoints: found.http_endpoints,
        resiliencies: found.resiliencies,
        configurations: found.configurations,
        mcp_servers: found.mcp_servers,
        workflow_access_policies: found.workflow_access_policies,
        warnings: found.warnings,
        unreadable,
    }
}

/// Reads `*.yaml` and `*.yml` of directories, not of directories within.
#[derive(Debug, Clone)]
pub struct DiskLoader {
    options: Arc<DiskOptions>,
}

/// The documents of all files by kind.
#[derive(Default)]
struct Found {
    components: Vec<Component>,
    subscriptions: Vec<Subscription>,
    http_endpoints: Vec<HttpEndpoint>,
    resiliencies: Vec<Resiliency>,
    configurations: Vec<Configuration>,
    mcp_servers: Vec<McpServer>,
    workflow_access_policies: Vec<WorkflowAccessPolicy>,
    warnings: Vec<Warning>,
}

impl DiskLoader {
    /// A loader; nothing is read yet.
    #[must_use]
    pub fn new(options: DiskOptions) -> Self {
        Self {
            options: Arc::new(options),
        }
    }

    /// The directories it reads.
    #[must_use]
    pub fn paths(&self) -> &[PathBuf] {
        &self.options.paths
    }

    /// Reads everything; blocks on the file system.
    #[must_use]
    pub fn load_blocking(&self) -> Resources {
        let mut found = Found::default();
        let mut failure = None;
        for directory in &self.options.paths {
            if let Err(error) = found.read_directory(directory) {
                failure = Some(error);
                break;
            }
        }
        let Found {
            components,
            subscriptions,
            http_endpoints,
            resiliencies,
            configurations,
            mcp_servers,
            workflow_access_policies,
            mut warnings,
        } = found;
        let found = &mut warnings;
        Resources {
            components: self.filtered(components, &failure, found),
            subscriptions: failure.clone().map_or(Ok(subscriptions), Err),
            http_endpoints: self.filtered(http_endpoints, &failure, found),
            resiliencies: self.filtered(resiliencies, &failure, found),
            configurations: self.filtered(configurations, &failure, found),
            mcp_servers: self.filtered(mcp_servers, &failure, found),
            workflow_access_policies: self.filtered(workflow_access_policies, &failure, found),
            warnings,
        }
    }

    /// Those of this namespace and app. A name counts as taken only by a resource that is in scope, but the
    /// newcomer collides whether it is in scope or not. The error is upstream's; the warnings say where.
    fn filtered<T: Resource>(
        &self,
        items: Vec<T>,
        failure: &Option<LoadError>,
        warnings: &mut Vec<Warning>,
    ) -> Result<Vec<T>, LoadError> {
        if let Some(failure) = failure {
            return Err(failure.clone());
        }
        let namespace = self
            .options
            .namespace
            .as_deref()
            .filter(|namespace| !namespace.is_empty());
        let mut taken: HashMap<String, (String, Option<Origin>)> = HashMap::new();
        let mut duplicates = Vec::new();
        let mut kept = Vec::new();
        for item in items {
            let own = &item.meta().namespace;
            if namespace.is_some_and(|namespace| !own.is_empty() && own != namespace) {
                continue;
            }
            if let Some((existing, first)) = taken.get(item.name()) {
                let (kind, name) = (T::KIND, item.log_name());
                if let (Some(first), Some(origin)) = (first, &item.meta().origin) {
                    warnings.push(Warning {
                        line: origin.line,
                        ..Warning::of_file(
                            Severity::Skipped,
                            &origin.file,
                            format!("the {kind} name {:?} is taken at {first}", item.name()),
                            "give one of them another name or other scopes",
                        )
                    });
                }
                duplicates.push(format!(
                    "duplicate definition of {kind} name {name} with existing {existing}"
                ));
                continue;
            }
            if !item.in_scope(&self.options.app_id) {
                continue;
            }
            let place = (item.log_name(), item.meta().origin.clone());
            taken.insert(item.name().to_owned(), place);
            kept.push(item);
        }
        if duplicates.is_empty() {
            Ok(kept)
        } else {
            Err(LoadError::Duplicates(duplicates))
        }
    }
}

impl ResourceSource for DiskLoader {
    fn load(&self) -> BoxFuture<'_, Resources> {
        let loader = self.clone();
        Box::pin(async move {
            match tokio::task::spawn_blocking(move || loader.load_blocking()).await {
                Ok(resources) => resources,
                Err(error) => {
                    let error = LoadError::Source(error.to_string());
                    Resources {
                        components: Err(error.clone()),
                        subscriptions: Err(error.clone()),
                        http_endpoints: Err(error.clone()),
                        resiliencies: Err(error.clone()),
                        configurations: Err(error.clone()),
                        mcp_servers: Err(error.clone()),
                        workflow_access_policies: Err(error),
                        warnings: Vec::new(),
                    }
                }
            }
        })
    }
}

/// What every document says about itself.
#[derive(Default)]
struct Header {
    kind: String,
    api_version: String,
    meta: ObjectMeta,
}

impl Decode for Header {
    fn decode(&mut self, node: &Node, decoder: &mut Decoder) {
        // `kind` and `apiVersion` sit in an embedded Go struct, where numbers are no texts.
        for (key, value) in decoder.fields(
            node,
            &["apiVersion", "kind", "metadata"],
            &["spec", "auth", "scopes"],
        ) {
            let text = match key {
                "kind" => &mut self.kind,
                "apiVersion" => &mut self.api_version,
                _ => {
                    decoder.within(key, |decoder| self.meta.decode(value, decoder));
                    continue;
                }
            };
            let dialect = std::mem::replace(&mut decoder.dialect, Dialect::Json);
            decoder.within(key, |decoder| text.decode(value, decoder));
            decoder.dialect = dialect;
        }
    }
}

/// A document of a file.
struct Document<'a> {
    file: &'a Path,
    lines_before: usize,
}

impl Document<'_> {
    /// Where a resource has its name, or begins.
    fn name_origin(&self, node: &Node) -> Origin {
        let name = node.get("metadata").and_then(|meta| meta.get("name"));
        Origin {
            file: self.file.to_owned(),
            line: self.lines_before + name.unwrap_or(node).at.line,
        }
    }

    /// Where a resource's spec has this field, or begins.
    fn origin(&self, node: &Node, field: &str) -> Origin {
        let spec = node.get("spec");
        let place = spec.and_then(|spec| spec.get(field)).or(spec).unwrap_or(node);
        Origin {
            file: self.file.to_owned(),
            line: self.lines_before + place.at.line,
        }
    }
}

impl Found {
    fn read_directory(&mut self, directory: &Path) -> Result<(), LoadError> {
        let failed = |source| LoadError::Directory {
            path: directory.to_owned(),
            source: Arc::new(source),
        };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            // Like Go's ReadDir this does not follow links: a link to a directory is a file that fails to read.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            files.push(entry.file_name());
        }
        files.sort();
        for name in files {
            let file = directory.join(&name);
            if !is_yaml(&name.to_string_lossy()) {
                let message = "not a YAML file, it will not be loaded".to_owned();
                self.warnings.push(Warning::of_file(
                    Severity::Suspicious,
                    &file,
                    message,
                    "name it *.yaml or *.yml",
                ));
                continue;
            }
            self.read_file(&file);
        }
        Ok(())
    }

    fn read_file(&mut self, file: &Path) {
        let mut bytes = Vec::new();
        let read =
            std::fs::File::open(file).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
        let problem = match read {
            // Gone between listing and reading: another writer at work, who will be noticed.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => Some((format!("cannot be read: {error}"), "check the file's permissions")),
            Ok(_) if bytes.len() as u64 > MAX_FILE_BYTES => Some((
                format!("is above {MAX_FILE_BYTES} bytes"),
                "split it into several files",
            )),
            Ok(_) => None,
        };
        if let Some((message, cure)) = problem {
            self.warnings
                .push(Warning::of_file(Severity::Skipped, file, message, cure));
            return;
        }
        let (documents, lost) = split(&bytes);
        let (mut counted, mut lines_before) = (0, 0);
        let mut lines_until = |start: usize| {
            lines_before += bytes[counted..start]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count();
            counted = start;
            lines_before
        };
        for (start, document) in documents {
            let lines_before = lines_until(start);
            self.read_document(&Document { file, lines_before }, document);
        }
        if let Some(start) = lost {
            self.warnings.push(Warning {
                line: lines_until(start) + 1,
                ..Warning::of_file(
                    Severity::Skipped,
                    file,
                    "the file ends in the middle of a `---` line, so the document before it is not loaded"
                        .to_owned(),
                    "end that line with a line break, or remove it",
                )
            });
        }
    }

    fn warn(&mut self, document: &Document<'_>, severity: Severity, finding: Finding) {
        self.warnings.push(Warning::of_finding(
            severity,
            document.file,
            document.lines_before,
            finding,
        ));
    }

    fn read_document(&mut self, document: &Document<'_>, bytes: &[u8]) {
        let parsed = match std::str::from_utf8(bytes) {
            Ok(text) => yaml::parse(text, Mode::GoYamlV2).map_err(|error| Finding {
                at: error.at,
                message: error.message,
                cure: "correct the YAML; the document is skipped".to_owned(),
            }),
            Err(error) => {
                let lines = bytes[..error.valid_up_to()]
                    .iter()
                    .filter(|byte| **byte == b'\n')
                    .count();
                Err(Finding {
                    at: yaml::Mark {
                        line: lines + 1,
                        column: 0,
                    },
                    message: "is not UTF-8".to_owned(),
                    cure: "save the file as UTF-8".to_owned(),
                })
            }
        };
        let node = match parsed {
            Ok(Some(node)) if !node.is_null() => node,
            Ok(_) => return,
            Err(finding) => return self.warn(document, Severity::Skipped, finding),
        };
        let mut decoder = Decoder::new(Dialect::SigsYaml);
        let mut header = Header::default();
        header.decode(&node, &mut decoder);
        if !decoder.errors.is_empty() {
            return self.skip(document, decoder);
        }
        let Header {
            kind,
            api_version,
            meta,
        } = header;
        let version = api_version.as_str();
        match kind.as_str() {
            Component::KIND if version == V1 => {
                if let Some(mut component) =
                    self.decoded::<Component>(document, &node, &meta, Component::KIND)
                {
                    component.meta.origin = Some(document.origin(&node, "type"));
                    self.components.push(component);
                }
            }
            HttpEndpoint::KIND if version == V1 => {
                self.keep(document, &node, &meta, |found| &mut found.http_endpoints);
            }
            Resiliency::KIND if version == V1 => {
                if let Some(mut policies) =
                    self.decoded::<Resiliency>(document, &node, &meta, Resiliency::KIND)
                {
                    policies.meta.origin = Some(document.origin(&node, "policies"));
                    self.resiliencies.push(policies);
                }
            }
            Configuration::KIND if version == V1 => {
                self.keep(document, &node, &meta, |found| &mut found.configurations);
            }
            McpServer::KIND if version == V1 => {
                self.keep(document, &node, &meta, |found| &mut found.mcp_servers)
            }
            WorkflowAccessPolicy::KIND if version == V1 => {
                self.keep(document, &node, &meta, |found| {
                    &mut found.workflow_access_policies
                });
            }
            Subscription::KIND if version == V2 => {
                self.keep(document, &node, &meta, |found| &mut found.subscriptions);
            }
            Subscription::KIND if version == V1 => {
                if let Some(old) = self.decoded::<SubscriptionV1>(document, &node, &meta, Subscription::KIND)
                {
                    let mut subscription = Subscription::from(old);
                    subscription.meta.origin = Some(document.name_origin(&node));
                    self.subscriptions.push(subscription);
                }
            }
            _ => {
                let place = node
                    .get("kind")
                    .or_else(|| node.get("apiVersion"))
                    .map_or(node.at, |node| node.at);
                let message = match (kind.as_str(), version) {
                    ("", _) => "the document has no kind and is ignored".to_owned(),
                    (kind, version) => {
                        format!("{kind} of {version:?} is no resource of a sidecar and is ignored")
                    }
                };
                let known = KINDS.iter().find(|known| known.eq_ignore_ascii_case(&kind));
                let cure = match known {
                    Some(known) => format!("write kind: {known} and apiVersion: {V1}"),
                    None => "move it elsewhere, or correct kind and apiVersion".to_owned(),
                };
                self.warn(
                    document,
                    Severity::Suspicious,
                    Finding {
                        at: place,
                        message,
                        cure,
                    },
                );
            }
        }
    }

    fn keep<T: Resource>(
        &mut self,
        document: &Document<'_>,
        node: &Node,
        meta: &ObjectMeta,
        list: impl FnOnce(&mut Self) -> &mut Vec<T>,
    ) {
        if let Some(mut resource) = self.decoded::<T>(document, node, meta, T::KIND) {
            resource.meta_mut().origin = Some(document.name_origin(node));
            list(self).push(resource);
        }
    }

    fn decoded<T: Decode + Default>(
        &mut self,
        document: &Document<'_>,
        node: &Node,
        meta: &ObjectMeta,
        kind: &str,
    ) -> Option<T> {
        if let Some(reason) = invalid_name(&meta.name) {
            let at = node
                .get("metadata")
                .and_then(|meta| meta.get("name"))
                .map_or(node.at, |name| name.at);
            let message = format!(
                "invalid name {} for {}: {reason}",
                go::quote(&meta.name),
                go::quote(kind)
            );
            let cure = "choose another name".to_owned();
            self.warn(document, Severity::Skipped, Finding { at, message, cure });
            return None;
        }
        let mut decoder = Decoder::new(Dialect::SigsYaml);
        let mut resource = T::default();
        resource.decode(node, &mut decoder);
        if !decoder.errors.is_empty() {
            self.skip(document, decoder);
            return None;
        }
        for finding in decoder.findings {
            self.warn(document, Severity::Suspicious, finding);
        }
        if meta.name.is_empty() {
            let message = format!("this {kind} has no name");
            let cure = "add metadata.name".to_owned();
            self.warn(
                document,
                Severity::Suspicious,
                Finding {
                    at: node.at,
                    message,
                    cure,
                },
            );
        }
        if let Content::Mapping(mapping) = &node.content
            && !mapping
                .entries
                .iter()
                .any(|entry| entry.key.eq_ignore_ascii_case("spec"))
        {
            let message = format!("this {kind} has no spec");
            self.warn(
                document,
                Severity::Suspicious,
                Finding {
                    at: node.at,
                    message,
                    cure: "add spec".to_owned(),
                },
            );
        }
        Some(resource)
    }

    fn skip(&mut self, document: &Document<'_>, decoder: Decoder) {
        for finding in decoder.errors {
            self.warn(document, Severity::Skipped, finding);
        }
    }
}

const V1: &str = "dapr.io/v1alpha1";
const V2: &str = "dapr.io/v2alpha1";
const KINDS: &[&str] = &[
    Component::KIND,
    Subscription::KIND,
    HttpEndpoint::KIND,
    Resiliency::KIND,
    Configuration::KIND,
    McpServer::KIND,
    WorkflowAccessPolicy::KIND,
];

fn is_yaml(name: &str) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(_, end)| end.eq_ignore_ascii_case("yaml") || end.eq_ignore_ascii_case("yml"))
}

/// Kubernetes' `IsValidPathSegmentName`.
fn invalid_name(name: &str) -> Option<String> {
    if name == "." || name == ".." {
        return Some(format!("may not be '{name}'"));
    }
    let found: Vec<_> = ["/", "%"]
        .iter()
        .filter(|c| name.contains(**c))
        .map(|c| format!("may not contain '{c}'"))
        .collect();
    (!found.is_empty()).then(|| found.join("; "))
}

/// Documents with the byte each starts at, and where an unfinished rest starts that upstream's scanner loses: text
/// before a last `---` that has something after it on its line but no line break.
fn split(bytes: &[u8]) -> (Vec<(usize, &[u8])>, Option<usize>) {
    const SEPARATOR: &[u8] = b"\n---";
    let mut documents = Vec::new();
    let mut start = 0;
    while start < bytes.len() {
        let rest = &bytes[start..];
        let Some(end) = rest
            .windows(SEPARATOR.len())
            .position(|window| window == SEPARATOR)
        else {
            documents.push((start, rest));
            break;
        };
        let after = &rest[end + SEPARATOR.len()..];
        let line_break = after.iter().position(|byte| *byte == b'\n');
        if line_break.is_none() && !after.is_empty() {
            return (documents, Some(start));
        }
        documents.push((start, &rest[..end]));
        start += end + SEPARATOR.len() + line_break.map_or(0, |at| at + 1);
    }
    (documents, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_as_upstreams_scanner() {
        let parts = |text: &'static str| {
            let (documents, lost) = split(text.as_bytes());
            let documents: Vec<_> = documents
                .into_iter()
                .map(|(at, part)| (at, std::str::from_utf8(part).unwrap()))
                .collect();
            (documents, lost)
        };
        assert_eq!(parts(""), (vec![], None));
        assert_eq!(parts("a\n---\nb\n"), (vec![(0, "a"), (6, "b\n")], None));
        assert_eq!(
            parts("---\na\n--- # next\nb"),
            (vec![(0, "---\na"), (17, "b")], None)
        );
        assert_eq!(parts("a\n---"), (vec![(0, "a")], None));
        assert_eq!(parts("a\n---\nb\n--- "), (vec![(0, "a")], Some(6)));
    }

    #[test]
    fn names_are_path_segments() {
        assert_eq!(invalid_name(""), None);
        assert_eq!(invalid_name("a.b-c"), None);
        assert_eq!(invalid_name("..").unwrap(), "may not be '..'");
        assert_eq!(
            invalid_name("a/b%c").unwrap(),
            "may not contain '/'; may not contain '%'"
        );
    }
}
