//! Subtle cryptography: single keys and small messages (upstream `pkg/api/universal/subtlecrypto_subtlecrypto.go`).
//!
//! Failures of the component are logged and answered in one generic sentence: what exactly went wrong would help to
//! attack paddings.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Response};
use outrigger_component::Error;
use outrigger_components_crypto::key::{self, ContentType, Material};
use outrigger_crypto::{CipherParams, CryptoProvider as _, KeyFormat};
use outrigger_sidecar_api::{ApiError, ApiRequest, Body, Endpoint, Group, errors, handler};
use outrigger_wire::{
    dapr::proto::runtime::v1::{
        SubtleDecryptRequest, SubtleDecryptResponse, SubtleEncryptRequest, SubtleEncryptResponse,
        SubtleGetKeyRequest, SubtleGetKeyResponse, SubtleSignRequest, SubtleSignResponse,
        SubtleUnwrapKeyRequest, SubtleUnwrapKeyResponse, SubtleVerifyRequest, SubtleVerifyResponse,
        SubtleWrapKeyRequest, SubtleWrapKeyResponse, subtle_get_key_request,
    },
    json::Render,
};

use super::CryptoService;
use crate::call::{read_proto, reply_proto};

macro_rules! http_handlers {
    ($($name:ident => $call:ident, $request:ident, $response:ident;)*) => {
        $(
            async fn $name(self: Arc<Self>, mut request: ApiRequest) -> Result<Response<Body>, ApiError> {
                let mut message: $request =
                    read_proto(&mut request, concat!("dapr.proto.runtime.v1.", stringify!($request))).await?;
                message.component_name = request.param("name").to_owned();
                let answer = self.$call(message).await?;
                reply_proto(concat!("dapr.proto.runtime.v1.", stringify!($response)), &answer, Render::default())
            }
        )*
    };
}

impl CryptoService {
    pub(super) fn subtle_endpoints(self: &Arc<Self>) -> Vec<Endpoint> {
        const POST: &[Method] = &[Method::POST];
        const GROUP: Group = Group {
            name: "subtlecrypto",
            version: "v1alpha1",
        };
        let endpoint = |route, name, handler| Endpoint::new(POST, "v1.0-alpha1", route, GROUP, name, handler);
        vec![
            endpoint(
                "subtlecrypto/{name}/getkey",
                "SubtleGetKey",
                handler(self, Self::http_get_key),
            ),
            endpoint(
                "subtlecrypto/{name}/encrypt",
                "SubtleEncrypt",
                handler(self, Self::http_subtle_encrypt),
            ),
            endpoint(
                "subtlecrypto/{name}/decrypt",
                "SubtleDecrypt",
                handler(self, Self::http_subtle_decrypt),
            ),
            endpoint(
                "subtlecrypto/{name}/wrapkey",
                "SubtleWrapKey",
                handler(self, Self::http_wrap_key),
            ),
            endpoint(
                "subtlecrypto/{name}/unwrapkey",
                "SubtleUnwrapKey",
                handler(self, Self::http_unwrap_key),
            ),
            endpoint(
                "subtlecrypto/{name}/sign",
                "SubtleSign",
                handler(self, Self::http_sign),
            ),
            endpoint(
                "subtlecrypto/{name}/verify",
                "SubtleVerify",
                handler(self, Self::http_verify),
            ),
        ]
    }

    http_handlers! {
        http_get_key => grpc_subtle_get_key, SubtleGetKeyRequest, SubtleGetKeyResponse;
        http_subtle_encrypt => grpc_subtle_encrypt, SubtleEncryptRequest, SubtleEncryptResponse;
        http_subtle_decrypt => grpc_subtle_decrypt, SubtleDecryptRequest, SubtleDecryptResponse;
        http_wrap_key => grpc_subtle_wrap_key, SubtleWrapKeyRequest, SubtleWrapKeyResponse;
        http_unwrap_key => grpc_subtle_unwrap_key, SubtleUnwrapKeyRequest, SubtleUnwrapKeyResponse;
        http_sign => grpc_subtle_sign, SubtleSignRequest, SubtleSignResponse;
        http_verify => grpc_subtle_verify, SubtleVerifyRequest, SubtleVerifyResponse;
    }

    /// `SubtleGetKeyAlpha1`: the public part of a key pair.
    ///
    /// # Errors
    /// Rows of the crypto table.
    pub async fn grpc_subtle_get_key(
        &self,
        request: SubtleGetKeyRequest,
    ) -> Result<SubtleGetKeyResponse, ApiError> {
        let provider = self.subtle_provider(&request.component_name).await?;
        let format = match subtle_get_key_request::KeyFormat::try_from(request.format) {
            Ok(subtle_get_key_request::KeyFormat::Pem) => KeyFormat::Pem,
            Ok(subtle_get_key_request::KeyFormat::Json) => KeyFormat::Json,
            Err(_) => return Err(errors::bad_request("invalid key format")),
        };
        let key = provider
            .public_key(&request.name, format)
            .await
            .map_err(|error| errors::crypto_get_key(&request.name, error.chain()))?;
        let public_key = String::from_utf8(key.into())
            .map_err(|_| errors::crypto_get_key(&request.name, "the key is not text"))?;
        Ok(SubtleGetKeyResponse {
            name: key_id(&public_key).unwrap_or(request.name),
            public_key,
        })
    }

    /// `SubtleEncryptAlpha1`.
    ///
    /// # Errors
    /// Rows of the crypto table.
    pub async fn grpc_subtle_encrypt(
        &self,
        request: SubtleEncryptRequest,
    ) -> Result<SubtleEncryptResponse, ApiError> {
        let provider = self.subtle_provider(&request.component_name).await?;
        let params = CipherParams {
            algorithm: request.algorithm,
            key: request.key_name,
            nonce: request.nonce,
            tag: Bytes::new(),
            associated_data: request.associated_data,
        };
        let sealed = provider
            .encrypt(request.plaintext, params)
            .await
            .map_err(|error| failed("failed to encrypt", &error))?;
        Ok(SubtleEncryptResponse {
            ciphertext: sealed.data,
            tag: sealed.tag,
        })
    }

    /// `SubtleDecryptAlpha1`.
    ///
    /// # Errors
    /// Rows of the crypto table.
    pub async fn grpc_subtle_decrypt(
        &self,
        request: SubtleDecryptRequest,
    ) -> Result<SubtleDecryptResponse, ApiError> {
        let provider = self.subtle_provider(&request.component_name).await?;
        let params = CipherParams {
            algorithm: request.algorithm,
            key: request.key_name,
            nonce: request.nonce,
            tag: request.tag,
            associated_data: request.associated_data,
        };
        let plaintext = provider
            .decrypt(request.ciphertext, params)
            .await
            .map_err(|error| failed("failed to decrypt", &error))?;
        Ok(SubtleDecryptResponse { plaintext })
    }

    /// `SubtleWrapKeyAlpha1`: the key to wrap is a symmetric one, raw, in base64 or as JWK.
    ///
    /// # Errors
    /// Rows of the crypto table.
    pub async fn grpc_subtle_wrap_key(
        &self,
        request: SubtleWrapKeyRequest,
    ) -> Result<SubtleWrapKeyResponse, ApiError> {
        let provider = self.subtle_provider(&request.component_name).await?;
        let plaintext = symmetric(&request.plaintext_key)
            .map_err(|cause| errors::crypto_operation(format!("failed to parse plaintext key: {cause}")))?;
        let params = CipherParams {
            algorithm: request.algorithm,
            key: request.key_name,
            nonce: request.nonce,
            tag: Bytes::new(),
            associated_data: request.associated_data,
        };
        let sealed = provider
            .wrap_key(plaintext, params)
            .await
            .map_err(|error| failed("failed to wrap key", &error))?;
        Ok(SubtleWrapKeyResponse {
            wrapped_key: sealed.data,
            tag: sealed.tag,
        })
    }

    /// `SubtleUnwrapKeyAlpha1`.
    ///
    /// # Errors
    /// Rows of the crypto table.
    pub async fn grpc_subtle_unwrap_key(
        &self,
        request: SubtleUnwrapKeyRequest,
    ) -> Result<SubtleUnwrapKeyResponse, ApiError> {
        let provider = self.subtle_provider(&request.component_name).await?;
        let params = CipherParams {
            algorithm: request.algorithm,
            key: request.key_name,
            nonce: request.nonce,
            tag: request.tag,
            associated_data: request.associated_data,
        };
        let plaintext_key = provider
            .unwrap_key(request.wrapped_key, params)
            .await
            .map_err(|error| failed("failed to unwrap key", &error))?;
        Ok(SubtleUnwrapKeyResponse { plaintext_key })
    }

    /// `SubtleSignAlpha1`.
    ///
    /// # Errors
    /// Rows of the crypto table.
    pub async fn grpc_subtle_sign(&self, request: SubtleSignRequest) -> Result<SubtleSignResponse, ApiError> {
        let provider = self.subtle_provider(&request.component_name).await?;
        let signature = provider
            .sign(request.digest, &request.algorithm, &request.key_name)
            .await
            .map_err(|error| failed("failed to sign", &error))?;
        Ok(SubtleSignResponse { signature })
    }

    /// `SubtleVerifyAlpha1`.
    ///
    /// # Errors
    /// Rows of the crypto table.
    pub async fn grpc_subtle_verify(
        &self,
        request: SubtleVerifyRequest,
    ) -> Result<SubtleVerifyResponse, ApiError> {
        let provider = self.subtle_provider(&request.component_name).await?;
        let valid = provider
            .verify(
                request.digest,
                request.signature,
                &request.algorithm,
                &request.key_name,
            )
            .await
            .map_err(|error| failed("failed to verify signature", &error))?;
        Ok(SubtleVerifyResponse { valid })
    }
}

fn failed(what: &str, error: &Error) -> ApiError {
    tracing::debug!(target: "dapr.runtime.crypto", "{what}: {}", error.chain());
    errors::crypto_operation(what)
}

/// The `kid` of a JWK.
fn key_id(public_key: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(public_key).ok()?;
    Some(value.get("kid")?.as_str()?.to_owned()).filter(|id| !id.is_empty())
}

/// The bytes of the key to wrap.
fn symmetric(bytes: &[u8]) -> Result<Bytes, String> {
    let key = key::parse(bytes, ContentType::Unknown).map_err(|error| error.to_string())?;
    match key.material {
        Material::Symmetric(bytes) => Ok(Bytes::copy_from_slice(&bytes)),
        _ => Err("only symmetric keys can be wrapped".to_owned()),
    }
}
