//! The scheme `dapr.io/enc/v1` (upstream kit `schemes/enc/v1`): documents of any length in bounded memory.
//!
//! A document is a header of three lines (scheme name, JSON manifest, base64 HMAC of the two lines before), then
//! segments of 64 KiB, each sealed on its own with a nonce of seven random bytes, its number and a mark on the last
//! one, so that no segment can be changed, moved or cut off. An empty document has no segment at all. The key of a
//! document is random and travels in the manifest, wrapped by a key of the provider.
//!
//! [`encrypt`] and [`decrypt`] take a stream of chunks and give one back; neither holds more than one segment and
//! one chunk. Errors before the first byte (unknown algorithm, wrong key, broken header) come at once, later ones
//! end the stream.

mod file_key;
mod header;
mod manifest;
mod segments;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream::BoxStream};
use outrigger_component::Error;
use outrigger_crypto::{CipherParams, DynCryptoProvider};
use zeroize::Zeroizing;

use file_key::FileKey;
use manifest::Manifest;
pub use manifest::{Cipher, KeyAlgorithm};
use segments::Direction;

/// The scheme's name, the first line of every document.
pub const SCHEME_NAME: &str = "dapr.io/enc/v1";

/// Plaintext bytes of a segment, and the most that a header may have.
pub const SEGMENT_SIZE: usize = 64 << 10;

/// What a chunk of input may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What [`encrypt`] and [`decrypt`] give back: chunks of at most a segment and its tag.
pub type Output = BoxStream<'static, Result<Bytes, Error>>;

/// How to encrypt.
#[derive(Debug, Clone)]
pub struct EncryptOptions {
    /// How the document's key is wrapped; must fit the provider's key.
    pub algorithm: KeyAlgorithm,
    /// The provider's key.
    pub key_name: String,
    /// The name to write into the manifest instead of `key_name`, where decryption knows the key by another.
    pub decryption_key_name: Option<String>,
    /// Writes no name at all; decryption must be told.
    pub omit_key_name: bool,
    /// How the document is encrypted.
    pub cipher: Cipher,
}

impl EncryptOptions {
    /// Options as an API request has them: names in any case; an empty cipher means AES-GCM.
    ///
    /// # Errors
    /// When a name is unknown or the key's name is missing.
    pub fn parse(key_name: &str, algorithm: &str, cipher: &str) -> Result<Self, Error> {
        if key_name.is_empty() {
            return Err(Error::invalid("option KeyName is required"));
        }
        if algorithm.is_empty() {
            return Err(Error::invalid("option Algorithm is required"));
        }
        Ok(Self {
            algorithm: KeyAlgorithm::parse(&algorithm.to_uppercase())
                .map_err(|error| Error::invalid("option Algorithm is not valid").with_source(error))?,
            key_name: key_name.to_owned(),
            decryption_key_name: None,
            omit_key_name: false,
            cipher: match cipher {
                "" => Cipher::AesGcm,
                name => Cipher::parse(&name.to_uppercase())
                    .map_err(|error| Error::invalid("option Cipher is not valid").with_source(error))?,
            },
        })
    }
}

/// Encrypts a document.
///
/// # Errors
/// When the key cannot be wrapped or the header would be too long.
pub async fn encrypt<S, E>(
    provider: &dyn DynCryptoProvider,
    input: S,
    options: EncryptOptions,
) -> Result<Output, Error>
where
    S: Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
    E: Into<BoxError> + 'static,
{
    let (file_key, nonce_prefix) = file_key::generate()?;
    let params = CipherParams {
        algorithm: options.algorithm.name().to_owned(),
        key: options.key_name.clone(),
        ..CipherParams::default()
    };
    // The buffer that goes to the provider is the one copy that nobody wipes: `Bytes` is the trait's currency.
    let wrapped = provider
        .wrap_key(Bytes::copy_from_slice(&*file_key), params)
        .await
        .map_err(|error| Error::new(error.kind(), "failed to wrap the file key").with_source(error))?;
    let name = options
        .decryption_key_name
        .filter(|name| !name.is_empty())
        .unwrap_or(options.key_name);
    let manifest = Manifest {
        key_name: if options.omit_key_name {
            String::new()
        } else {
            name
        },
        key_wrapping_algorithm: options.algorithm,
        wrapped_file_key: wrapped.data.to_vec(),
        cipher: options.cipher,
        nonce_prefix,
    };
    let key = FileKey::new(&file_key, &manifest)?;
    let header = header::write(&manifest, &key)?;
    let segments = segments::process(input, Bytes::new(), key, Direction::Encrypt);
    Ok(futures::stream::once(futures::future::ready(Ok(header)))
        .chain(segments)
        .boxed())
}

/// Decrypts a document. `key_name` replaces the one in the manifest unless empty.
///
/// # Errors
/// When the header is broken, names no key where none is given, or the key is not the right one. Whether the
/// provider has the key is not told apart from its being wrong: both are a failed signature.
pub async fn decrypt<S, E>(
    provider: &dyn DynCryptoProvider,
    mut input: S,
    key_name: &str,
) -> Result<Output, Error>
where
    S: Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
    E: Into<BoxError> + 'static,
{
    let header = header::read(&mut input).await?;
    let manifest = Manifest::parse(&header.manifest)?;
    let key_name = match (key_name, manifest.key_name.as_str()) {
        ("", "") => {
            return Err(Error::invalid(
                "document's manifest does not contain a key name, and no key name was provided",
            ));
        }
        ("", name) | (name, _) => name.to_owned(),
    };
    let params = CipherParams {
        algorithm: manifest.key_wrapping_algorithm.name().to_owned(),
        key: key_name,
        ..CipherParams::default()
    };
    let mut file_key = Zeroizing::new([0; file_key::LENGTH]);
    match provider
        .unwrap_key(Bytes::copy_from_slice(&manifest.wrapped_file_key), params)
        .await
    {
        Ok(unwrapped) if unwrapped.len() == file_key::LENGTH => file_key.copy_from_slice(&unwrapped),
        // Going on with a key of zeros ends in the same answer after the same work as a wrong key, so that a
        // caller cannot find out which keys exist.
        Ok(_) => {}
        Err(error) => tracing::debug!(error = %error.chain(), "the file key could not be unwrapped"),
    }
    let key = FileKey::new(&file_key, &manifest)?;
    header::verify(&header, &key)?;
    Ok(segments::process(input, header.rest, key, Direction::Decrypt).boxed())
}
