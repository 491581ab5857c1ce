//! What an `MCPServer` must be to be served: the rules of its CRD, which Kubernetes keeps by itself, and those that no
//! schema can say (upstream `pkg/internal/loader/validate/mcpserver.go`).

use std::path::{Component, Path, PathBuf};

use super::{McpServer, NameValue, mcp_server::McpRemote};

/// A rule that is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidMcpServer(String);

fn invalid(text: impl Into<String>) -> Result<(), InvalidMcpServer> {
    Err(InvalidMcpServer(text.into()))
}

impl McpServer {
    /// The CRD's rules.
    ///
    /// # Errors
    /// With the first rule that is broken, in Kubernetes' way of saying it.
    pub fn validate(&self) -> Result<(), InvalidMcpServer> {
        let endpoint = &self.spec.endpoint;
        let transports = [
            endpoint.streamable_http.is_some(),
            endpoint.sse.is_some(),
            endpoint.stdio.is_some(),
        ];
        if transports.into_iter().filter(|is_set| *is_set).count() != 1 {
            return invalid(
                "spec.endpoint: Invalid value: exactly one of streamableHTTP, sse, or stdio must be set",
            );
        }
        for (transport, remote) in self.remotes() {
            let path = format!("spec.endpoint.{transport}");
            filled(&format!("{path}.url"), &remote.url)?;
            named(&format!("{path}.headers"), &remote.headers)?;
            let Some(auth) = &remote.auth else { continue };
            if let Some(oauth2) = &auth.oauth2 {
                filled(&format!("{path}.auth.oauth2.issuer"), &oauth2.issuer)?;
            }
            if let Some(jwt) = auth.spiffe.as_ref().and_then(|spiffe| spiffe.jwt.as_ref()) {
                filled(&format!("{path}.auth.spiffe.jwt.audience"), &jwt.audience)?;
                filled(&format!("{path}.auth.spiffe.jwt.header"), &jwt.header)?;
            }
        }
        if let Some(stdio) = &endpoint.stdio {
            filled("spec.endpoint.stdio.command", &stdio.command)?;
            named("spec.endpoint.stdio.env", &stdio.env)?;
        }
        Ok(())
    }

    /// What no schema can say: only http and https, only commands that stay where they are. `base` is the folder that
    /// relative commands start from. Looks at the file system, briefly.
    ///
    /// # Errors
    /// With the first fault, in upstream's words.
    pub fn check_security(&self, base: &Path, is_kubernetes: bool) -> Result<(), InvalidMcpServer> {
        let name = &self.meta.name;
        if let Some(stdio) = &self.spec.endpoint.stdio {
            if is_kubernetes {
                return invalid(format!(
                    "MCPServer {name:?}: stdio transport is not allowed in Kubernetes mode"
                ));
            }
            if stdio.command.is_empty() {
                return invalid(format!("MCPServer {name:?}: stdio.command must not be empty"));
            }
            if escapes(base, Path::new(&stdio.command)) {
                return invalid(format!(
                    "MCPServer {name:?}: stdio.command must not escape working directory"
                ));
            }
            if let Some(env) = stdio.env.iter().find(|env| env.name.contains(['=', '\n', '\0'])) {
                return invalid(format!(
                    "MCPServer {name:?}: stdio.env name {:?} contains invalid characters",
                    env.name
                ));
            }
            return Ok(());
        }
        match self.remotes().next() {
            Some((transport, remote)) => check_url(name, transport, &remote.url),
            None => Ok(()),
        }
    }

    fn remotes(&self) -> impl Iterator<Item = (&'static str, &McpRemote)> {
        let endpoint = &self.spec.endpoint;
        [
            ("streamableHTTP", endpoint.streamable_http.as_ref()),
            ("sse", endpoint.sse.as_ref()),
        ]
        .into_iter()
        .filter_map(|(transport, remote)| Some((transport, remote?)))
    }
}

fn filled(path: &str, text: &str) -> Result<(), InvalidMcpServer> {
    if text.is_empty() {
        return invalid(format!(
            "{path}: Invalid value: \"\": should be at least 1 chars long"
        ));
    }
    Ok(())
}

fn named(path: &str, pairs: &[NameValue]) -> Result<(), InvalidMcpServer> {
    match pairs.iter().position(|pair| pair.name.is_empty()) {
        Some(at) => invalid(format!("{path}[{at}].name: Required value")),
        None => Ok(()),
    }
}

fn check_url(name: &str, transport: &str, url: &str) -> Result<(), InvalidMcpServer> {
    let (scheme, rest) = url.split_once(':').unwrap_or(("", url));
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return invalid(format!(
            "MCPServer {name:?}: {transport}.url scheme must be http or https, got {scheme:?}"
        ));
    }
    let host = rest
        .strip_prefix("//")
        .and_then(|rest| rest.split(['/', '?', '#']).next())
        .unwrap_or_default();
    if host.is_empty() {
        return invalid(format!("MCPServer {name:?}: {transport}.url must have a host"));
    }
    Ok(())
}

/// Whether a relative command with a folder in it leads out of `base`; links are followed where they exist.
fn escapes(base: &Path, command: &Path) -> bool {
    if command.is_absolute() || command.components().count() < 2 {
        return false;
    }
    let mut plain = PathBuf::from(base);
    for part in command.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    let resolved = plain.canonicalize().unwrap_or(plain);
    let base_resolved = base.canonicalize().unwrap_or_else(|_| base.to_owned());
    !resolved.starts_with(base) && !resolved.starts_with(base_resolved)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::mcp_server::McpStdio;

    fn remote(url: &str) -> McpServer {
        let mut server = McpServer::default();
        "a".clone_into(&mut server.meta.name);
        server.spec.endpoint.sse = Some(McpRemote {
            url: url.to_owned(),
            ..McpRemote::default()
        });
        server
    }

    fn stdio(command: &str) -> McpServer {
        let mut server = McpServer::default();
        server.spec.endpoint.stdio = Some(McpStdio {
            command: command.to_owned(),
            ..McpStdio::default()
        });
        server
    }

    #[test]
    fn one_transport_no_more_no_less() {
        assert!(remote("http://example.com").validate().is_ok());
        let error = McpServer::default().validate().unwrap_err().to_string();
        assert!(error.contains("exactly one of streamableHTTP, sse, or stdio must be set"));
        let mut two = remote("http://example.com");
        two.spec.endpoint.stdio = stdio("echo").spec.endpoint.stdio;
        assert!(two.validate().is_err());
        assert!(remote("").validate().is_err());
    }

    #[test]
    fn only_http_with_a_host() {
        let base = Path::new("/srv");
        assert!(
            remote("https://example.com/sse")
                .check_security(base, false)
                .is_ok()
        );
        for (url, text) in [
            (
                "file:///etc/passwd",
                "sse.url scheme must be http or https, got \"file\"",
            ),
            ("http:///x", "sse.url must have a host"),
            ("example", "sse.url scheme must be http or https, got \"\""),
        ] {
            let error = remote(url).check_security(base, false).unwrap_err();
            assert_eq!(error.to_string(), format!("MCPServer \"a\": {text}"));
        }
    }

    #[test]
    fn a_command_stays_in_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        for (command, fits) in [
            ("echo", true),
            ("/bin/echo", true),
            ("./tool", true),
            ("../tool", false),
            ("tools/../../tool", false),
        ] {
            let checked = stdio(command).check_security(folder.path(), false);
            assert_eq!(checked.is_ok(), fits, "{command}");
        }
        assert!(stdio("echo").check_security(folder.path(), true).is_err());
    }
}
