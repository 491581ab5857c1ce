//! Metadata of `secretstores.hashicorp.vault`.

use outrigger_component::{Error, Properties, SecretString};
use outrigger_types::is_truthy;

/// The metadata, read.
#[derive(Debug, Clone)]
pub struct VaultConfig {
    /// Scheme, host and port, without a slash at the end.
    pub address: String,
    /// Where the key/value engine is mounted.
    pub engine: String,
    /// The folder of the secrets; empty for none.
    pub prefix: String,
    /// Whether a secret is one text instead of several keys.
    pub text: bool,
    /// Who we are.
    pub token: Token,
    /// Whom we trust.
    pub trust: Trust,
    /// Another name than the address's to check the certificate for.
    pub server_name: Option<String>,
}

/// Where the token is.
#[derive(Debug, Clone)]
pub enum Token {
    /// In the metadata.
    Value(SecretString),
    /// In a file, as written; relative paths start at the host's base folder.
    File(String),
}

/// How the server's certificate is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Not at all.
    Anyone,
    /// By these roots, PEM.
    Pem(String),
    /// By the roots in the files of a folder, and of the folders in it.
    Folder(String),
    /// By the roots in a file.
    File(String),
    /// By the system's roots.
    System,
}

impl VaultConfig {
    /// Reads the metadata.
    ///
    /// # Errors
    /// In upstream's words when there is no token, or two, or the value type is unknown.
    pub fn parse(properties: &Properties) -> Result<Self, Error> {
        let text = match properties.non_empty("vaultValueType") {
            None | Some("map") => false,
            Some("text") => true,
            Some(other) => {
                return Err(Error::configuration(format!(
                    "vault init error, invalid value type {other}, accepted values are map or text"
                )));
            }
        };
        let token = match (
            properties.non_empty("vaultToken"),
            properties.non_empty("vaultTokenMountPath"),
        ) {
            (None, None) => return Err(Error::configuration("token mount path and token not set")),
            (Some(_), Some(_)) => return Err(Error::configuration("token mount path and token both set")),
            (Some(token), None) => Token::Value(token.into()),
            (None, Some(path)) => Token::File(path.to_owned()),
        };
        let prefix = if properties.non_empty("vaultKVUsePrefix").is_none_or(is_truthy) {
            properties.non_empty("vaultKVPrefix").unwrap_or("dapr")
        } else {
            ""
        };
        let owned = |name: &str| properties.non_empty(name).map(str::to_owned);
        let trust = if properties.get("skipVerify") == Some("true") {
            Trust::Anyone
        } else if let Some(pem) = owned("caPem") {
            Trust::Pem(pem)
        } else if let Some(folder) = owned("caPath") {
            Trust::Folder(folder)
        } else if let Some(file) = owned("caCert") {
            Trust::File(file)
        } else {
            Trust::System
        };
        let address = properties
            .non_empty("vaultAddr")
            .unwrap_or("https://127.0.0.1:8200");
        Ok(Self {
            address: address.trim_end_matches('/').to_owned(),
            engine: properties.non_empty("enginePath").unwrap_or("secret").to_owned(),
            prefix: prefix.to_owned(),
            text,
            token,
            // Upstream sets the name only where the certificate is checked.
            server_name: (trust != Trust::Anyone).then(|| owned("tlsServerName")).flatten(),
            trust,
        })
    }
}
