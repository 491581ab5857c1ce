//! A backend made at run time of `.proto` text: its descriptors by reflection, its messages dynamic.

use std::net::SocketAddr;
use std::pin::Pin;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt as _};
use outrigger_platform_transcoding::Raw;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, Value};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use tonic::server::{Grpc, StreamingService};
use tonic::service::Routes;
use tonic::{Code, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Which version of reflection a backend has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    V1,
    V1Alpha,
    None,
}

/// A running backend.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    pub(crate) pool: DescriptorPool,
    _task: AbortOnDropHandle<()>,
}

struct Texts(String);

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let text = match name {
            "shop.proto" => self.0.as_str(),
            "google/api/annotations.proto" => {
                include_str!("../../../../wire/platform/proto/google/api/annotations.proto")
            }
            "google/api/http.proto" => include_str!("../../../../wire/platform/proto/google/api/http.proto"),
            _ => return Err(protox::Error::file_not_found(name)),
        };
        File::from_source(name, text)
    }
}

/// Descriptors of the shop, whose text may be changed first.
fn descriptors(change: impl Fn(&str) -> String) -> Vec<u8> {
    let text = change(include_str!("shop.proto"));
    let mut resolver = ChainFileResolver::new();
    resolver.add(Texts(text));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).include_source_info(true);
    compiler.open_file("shop.proto").unwrap();
    compiler.encode_file_descriptor_set()
}

impl Backend {
    pub(crate) async fn start() -> Self {
        Self::start_as(Speaks::V1, "", 0).await
    }

    /// With another method where `more` declares one.
    pub(crate) async fn start_as(speaks: Speaks, more: &str, port: u16) -> Self {
        Self::start_with(speaks, port, |text| text.replace("// @more", more)).await
    }

    pub(crate) async fn start_with(speaks: Speaks, port: u16, change: impl Fn(&str) -> String) -> Self {
        let encoded = descriptors(change);
        let pool = DescriptorPool::decode(encoded.as_slice()).unwrap();
        let builder =
            || tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(&encoded);
        let reflection = match speaks {
            Speaks::V1 => Routes::new(builder().build_v1().unwrap())
                .into_axum_router()
                .reset_fallback(),
            Speaks::V1Alpha => Routes::new(builder().build_v1alpha().unwrap())
                .into_axum_router()
                .reset_fallback(),
            Speaks::None => Router::new(),
        };
        let shop = Shop(pool.clone());
        let routes = reflection.fallback(move |request: Request| {
            let shop = shop.clone();
            async move { shop.answer(request).await }
        });
        let listener = listen(port).await;
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self {
            address,
            pool,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Its entry in a services file.
    pub(crate) fn entry(&self, name: &str) -> serde_json::Value {
        serde_json::json!({"name": name, "grpc": {"host": "127.0.0.1", "port": self.address.port()}})
    }
}

/// A port that was just given up may be held for a moment.
async fn listen(port: u16) -> TcpListener {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        match TcpListener::bind(("127.0.0.1", port)).await {
            Ok(listener) => return listener,
            Err(error) if tokio::time::Instant::now() > deadline => panic!("port {port}: {error}"),
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

#[derive(Debug, Clone)]
struct Shop(DescriptorPool);

impl Shop {
    async fn answer(&self, request: Request) -> Response {
        let (service, method) = match request.uri().path().trim_start_matches('/').split_once('/') {
            Some((service, method)) => (service.to_owned(), method.to_owned()),
            None => return Status::unimplemented("no method").into_http(),
        };
        let known = self
            .0
            .get_service_by_name(&service)
            .is_some_and(|it| it.methods().any(|it| it.name() == method));
        if !known {
            return Status::unimplemented(format!("no method {method}")).into_http();
        }
        let called = Method {
            shop: self.clone(),
            method,
        };
        Grpc::new(Raw)
            .streaming(called, request)
            .await
            .map(axum::body::Body::new)
    }

    fn value(&self, message: Bytes) -> i64 {
        let kind = self.0.get_message_by_name("shop.v1.Total").unwrap();
        let message = DynamicMessage::decode(kind, message).unwrap();
        message.get_field_by_name("value").unwrap().as_i64().unwrap()
    }

    fn sum(&self, message: Bytes) -> Bytes {
        let kind = self.0.get_message_by_name("shop.v1.Numbers").unwrap();
        let numbers = DynamicMessage::decode(kind, message).unwrap();
        let field = numbers.get_field_by_name("values").unwrap();
        let sum = field.as_list().unwrap().iter().filter_map(Value::as_i64).sum();
        let mut total = DynamicMessage::new(self.0.get_message_by_name("shop.v1.Total").unwrap());
        total.set_field_by_name("value", Value::I64(sum));
        total.encode_to_vec().into()
    }
}

struct Method {
    shop: Shop,
    method: String,
}

type Answers = BoxStream<'static, Result<Bytes, Status>>;

impl StreamingService<Bytes> for Method {
    type Response = Bytes;
    type ResponseStream = Pin<Box<dyn futures::Stream<Item = Result<Bytes, Status>> + Send>>;
    type Future = BoxFuture<'static, Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<Bytes>>) -> Self::Future {
        let (shop, method) = (self.shop.clone(), self.method.clone());
        Box::pin(async move {
            let told = [
                ("x-say", "x-said"),
                ("dapr-app-id", "x-app-id"),
                ("dapr-api-token", "x-token"),
            ]
            .map(|(asked, told)| (request.metadata().get(asked).cloned(), told));
            let mut asks = request.into_inner();
            let answers: Answers = match method.as_str() {
                "Chat" => asks.boxed(),
                method => {
                    let message = asks.message().await?.unwrap_or_default();
                    match method {
                        "Sum" => stream::iter([Ok(shop.sum(message))]).boxed(),
                        "Watch" => {
                            stream::iter([Ok(message.clone()), Ok(message.clone()), Ok(message)]).boxed()
                        }
                        "Wait" => stream::pending().boxed(),
                        "Fail" => return Err(failure(shop.value(message))),
                        _ => stream::iter([Ok(message)]).boxed(),
                    }
                }
            };
            let mut response = tonic::Response::new(answers);
            for (value, name) in told {
                if let Some(value) = value {
                    response.metadata_mut().insert(name, value);
                }
            }
            Ok(response)
        })
    }
}

fn failure(code: i64) -> Status {
    let details = ErrorDetails::with_error_info("BECAUSE", "shop", [("a".to_owned(), "b".to_owned())]);
    Status::with_error_details(Code::from(i32::try_from(code).unwrap()), "it failed", details)
}
