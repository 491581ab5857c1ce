//! A gRPC app with methods of all four kinds, and its client. Messages are `google.protobuf.StringValue`s, so no
//! contract of its own is needed; the sidecars only see bytes.

use std::{convert::Infallible, pin::Pin, sync::Arc};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, future::BoxFuture};
use http::{Request, Response, uri::PathAndQuery};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpListener, task::JoinSet};
use tonic::{
    Status, Streaming,
    body::Body,
    metadata::AsciiMetadataValue,
    server::{ClientStreamingService, ServerStreamingService, StreamingService, UnaryService},
    transport::Channel,
};
use tonic_prost::ProstCodec;

type Messages = Pin<Box<dyn Stream<Item = Result<String, Status>> + Send>>;

fn codec() -> ProstCodec<String, String> {
    ProstCodec::default()
}

/// Serves until dropped.
#[derive(Debug)]
pub(crate) struct EchoApp {
    pub(crate) port: u16,
    _accepting: JoinSet<()>,
}

impl EchoApp {
    /// Every answer begins with this name.
    pub(crate) async fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            let name: Arc<str> = name.into();
            while let Ok((stream, _)) = listener.accept().await {
                let methods = Methods(Arc::clone(&name));
                let service = service_fn(move |request: Request<Incoming>| {
                    let methods = methods.clone();
                    async move { Ok::<_, Infallible>(methods.serve(request).await) }
                });
                connections.spawn(async move {
                    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            port,
            _accepting: accepting,
        }
    }
}

#[derive(Clone)]
struct Methods(Arc<str>);

impl Methods {
    async fn serve(self, request: Request<Incoming>) -> Response<Body> {
        let mut grpc = tonic::server::Grpc::new(codec());
        match request.uri().path() {
            "/test.Echo/Unary" => grpc.unary(self, request).await,
            "/test.Echo/Collect" => grpc.client_streaming(self, request).await,
            "/test.Echo/Spell" => grpc.server_streaming(self, request).await,
            "/test.Echo/Talk" => grpc.streaming(self, request).await,
            path => Status::unimplemented(path).into_http(),
        }
    }
}

impl UnaryService<String> for Methods {
    type Response = String;
    type Future = BoxFuture<'static, Result<tonic::Response<String>, Status>>;

    fn call(&mut self, request: tonic::Request<String>) -> Self::Future {
        let name = Arc::clone(&self.0);
        Box::pin(async move {
            if request.get_ref() == "fail" {
                return Err(Status::failed_precondition("as asked"));
            }
            let token = request
                .metadata()
                .get("x-kept")
                .map_or("", |value| value.to_str().unwrap())
                .to_owned();
            Ok(tonic::Response::new(format!(
                "{name}: {}{token}",
                request.into_inner()
            )))
        })
    }
}

impl ClientStreamingService<String> for Methods {
    type Response = String;
    type Future = BoxFuture<'static, Result<tonic::Response<String>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<String>>) -> Self::Future {
        let name = Arc::clone(&self.0);
        Box::pin(async move {
            let mut messages = request.into_inner();
            let mut all = Vec::new();
            while let Some(message) = messages.message().await? {
                all.push(message);
            }
            Ok(tonic::Response::new(format!("{name}: {}", all.join("+"))))
        })
    }
}

impl ServerStreamingService<String> for Methods {
    type Response = String;
    type ResponseStream = Messages;
    type Future = BoxFuture<'static, Result<tonic::Response<Messages>, Status>>;

    fn call(&mut self, request: tonic::Request<String>) -> Self::Future {
        let name = Arc::clone(&self.0);
        Box::pin(async move {
            let letters: Vec<String> = request
                .into_inner()
                .chars()
                .map(|letter| format!("{name}: {letter}"))
                .collect();
            Ok(tonic::Response::new(
                Box::pin(futures::stream::iter(letters).map(Ok)) as Messages,
            ))
        })
    }
}

impl StreamingService<String> for Methods {
    type Response = String;
    type ResponseStream = Messages;
    type Future = BoxFuture<'static, Result<tonic::Response<Messages>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<String>>) -> Self::Future {
        let name = Arc::clone(&self.0);
        Box::pin(async move {
            let answers = request
                .into_inner()
                .map(move |message| Ok(format!("{name}: {}", message?)));
            Ok(tonic::Response::new(Box::pin(answers) as Messages))
        })
    }
}

/// Calls methods of an [`EchoApp`] through a sidecar.
#[derive(Debug, Clone)]
pub(crate) struct EchoClient {
    grpc: tonic::client::Grpc<Channel>,
    target: AsciiMetadataValue,
}

impl EchoClient {
    pub(crate) fn new(channel: Channel, target: &str) -> Self {
        Self {
            grpc: tonic::client::Grpc::new(channel),
            target: target.parse().unwrap(),
        }
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("dapr-app-id", self.target.clone());
        request
    }

    async fn ready(&mut self) -> Result<(), Status> {
        self.grpc
            .ready()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))
    }

    pub(crate) async fn unary(&mut self, message: &str) -> Result<String, Status> {
        self.ready().await?;
        let mut request = self.request(message.to_owned());
        request.metadata_mut().insert("x-kept", "!".parse().unwrap());
        let path = PathAndQuery::from_static("/test.Echo/Unary");
        Ok(self.grpc.unary(request, path, codec()).await?.into_inner())
    }

    pub(crate) async fn collect(&mut self, messages: &[&str]) -> Result<String, Status> {
        self.ready().await?;
        let messages: Vec<String> = messages.iter().copied().map(str::to_owned).collect();
        let request = self.request(futures::stream::iter(messages));
        let path = PathAndQuery::from_static("/test.Echo/Collect");
        Ok(self
            .grpc
            .client_streaming(request, path, codec())
            .await?
            .into_inner())
    }

    pub(crate) async fn spell(&mut self, word: &str) -> Result<Vec<String>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static("/test.Echo/Spell");
        let answers = self
            .grpc
            .server_streaming(self.request(word.to_owned()), path, codec())
            .await?;
        let answers = answers.into_inner().collect::<Vec<_>>().await;
        answers.into_iter().collect()
    }

    /// Says each word only when the one before it was answered: both directions must be open at once.
    pub(crate) async fn talk(&mut self, words: &[&str]) -> Result<Vec<String>, Status> {
        self.ready().await?;
        let (say, said) = tokio::sync::mpsc::channel(1);
        let request = self.request(tokio_stream::wrappers::ReceiverStream::new(said));
        let path = PathAndQuery::from_static("/test.Echo/Talk");
        say.send(words[0].to_owned()).await.unwrap();
        let mut answers = self.grpc.streaming(request, path, codec()).await?.into_inner();
        let mut heard = Vec::new();
        for next in words.iter().skip(1).map(Some).chain([None]) {
            heard.push(answers.message().await?.expect("an answer to each word"));
            if let Some(next) = next {
                say.send((*next).to_owned()).await.unwrap();
            }
        }
        drop(say);
        assert_eq!(answers.message().await?, None);
        Ok(heard)
    }
}

/// Not used by the echo itself: the bytes of a framed gRPC message.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(message);
    bytes.into()
}
