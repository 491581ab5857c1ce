//! A method by the name that a caller gives it.

use bytes::Bytes;
use http::uri::PathAndQuery;
use outrigger_platform_transcoding::Call;
use prost_reflect::MethodDescriptor;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::{Descriptors, is_plumbing};

/// A method of a backend.
#[derive(Debug, Clone)]
pub struct Target(pub MethodDescriptor);

impl Target {
    /// The call of it with an encoded message.
    ///
    /// # Errors
    /// `UNIMPLEMENTED` for a stream, `INTERNAL` for a name that makes no path.
    pub fn call(&self, metadata: MetadataMap, message: Bytes) -> Result<Call, Status> {
        if self.0.is_client_streaming() || self.0.is_server_streaming() {
            return Err(Status::new(
                Code::Unimplemented,
                format!("{} is a stream: call it by gRPC or gRPC-Web", self.0.full_name()),
            ));
        }
        call(
            self.0.parent_service().full_name(),
            self.0.name(),
            metadata,
            message,
        )
    }
}

/// A call of a method whose full name is known.
pub(crate) fn call(
    service: &str,
    method: &str,
    metadata: MetadataMap,
    message: Bytes,
) -> Result<Call, Status> {
    let path = PathAndQuery::try_from(format!("/{service}/{method}"))
        .map_err(|_| Status::invalid_argument(format!("{service}/{method} is no method's name")))?;
    Ok(Call {
        path,
        metadata,
        message,
    })
}

/// Splits `package.Service/Method`, with or without a slash before it, or `package.Service.Method`. A short name has
/// no service.
pub(crate) fn split(name: &str) -> (Option<&str>, &str) {
    let name = name.trim_start_matches('/');
    match name.rsplit_once('/').or_else(|| name.rsplit_once('.')) {
        Some((service, method)) => (Some(service), method),
        None => (None, name),
    }
}

pub(super) fn find(descriptors: &Descriptors, backend: &str, name: &str) -> Result<Target, Status> {
    let (wanted, method) = split(name);
    let mut found: Vec<MethodDescriptor> = descriptors
        .services
        .iter()
        .filter(|service| wanted.map_or(!is_plumbing(service), |wanted| wanted == *service))
        .filter_map(|service| descriptors.pool.get_service_by_name(service))
        .filter_map(|service| service.methods().find(|it| it.name() == method))
        .collect();
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(Target(only)),
        (Some(last), false) => {
            found.push(last);
            let names: Vec<&str> = found.iter().map(MethodDescriptor::full_name).collect();
            Err(Status::invalid_argument(format!(
                "several services of {backend} have a method {name}: {}; give its full name",
                names.join(", ")
            )))
        }
        (None, _) => Err(Status::not_found(format!("{backend} has no method {name:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_several_spellings() {
        for name in ["a.b.S/M", "/a.b.S/M", "a.b.S.M"] {
            assert_eq!(split(name), (Some("a.b.S"), "M"));
        }
        assert_eq!(split("M"), (None, "M"));
    }

    #[test]
    fn a_short_name_must_be_one_method() {
        let descriptors = Descriptors {
            pool: outrigger_platform_wire::descriptor_pool().clone(),
            services: ["virtufin.Config", "virtufin.Gateway", "virtufin.Pubsub"]
                .map(str::to_owned)
                .to_vec(),
        };
        let found = find(&descriptors, "gw", "InvokeJson").unwrap();
        assert_eq!(found.0.full_name(), "virtufin.Gateway.InvokeJson");
        let found = find(&descriptors, "gw", "virtufin.Config/ListServices").unwrap();
        assert_eq!(found.0.full_name(), "virtufin.Config.ListServices");
        let status = find(&descriptors, "gw", "ListServices").unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(
            status.message().contains("virtufin.Config.ListServices"),
            "{status}"
        );
        assert_eq!(
            find(&descriptors, "gw", "Nothing").unwrap_err().code(),
            Code::NotFound
        );
        let stream = find(&descriptors, "gw", "virtufin.Pubsub/Subscribe").unwrap();
        let status = stream.call(MetadataMap::new(), Bytes::new()).unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
    }
}
