//! The generator over gRPC: the same unary call on a few connections with a few callers each, as fast as it is answered.

use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::{HeaderMap, Request, Version};
use http_body_util::BodyExt;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::{net::TcpStream, time::Instant};

use crate::{
    message::{self, Unary},
    options::Options,
    seen::{Seen, Start},
};

/// The call that is made again and again.
#[derive(Debug, Clone)]
struct Call {
    head: http::request::Parts,
    message: Bytes,
}

impl Call {
    fn build(options: &Options) -> anyhow::Result<Self> {
        let (path, target) = (options.required("path")?, options.required("target")?);
        let gzip = options.text("gzip").is_some();
        let mut request = Request::post(format!("http://{target}{path}"))
            .version(Version::HTTP_2)
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(app) = options.text("app-id") {
            request = request.header("dapr-app-id", app);
        }
        if gzip {
            request = request
                .header("grpc-encoding", "gzip")
                .header("grpc-accept-encoding", "gzip");
        }
        let (head, ()) = request.body(())?.into_parts();
        let message = message::named(options.required("message")?)?;
        Ok(Self {
            head,
            message: message::frame(&message, gzip),
        })
    }

    fn request(&self) -> Request<Unary> {
        let body = Unary {
            message: Some(self.message.clone()),
            trailers: None,
        };
        Request::from_parts(self.head.clone(), body)
    }
}

/// Runs and prints what was seen, with the encoding of the answers.
pub(crate) async fn drive(options: Options) -> anyhow::Result<()> {
    let call = Call::build(&options)?;
    let target = options.required("target")?;
    let connections = options.number("connections", 1_u32)?.max(1);
    let streams = options.number("streams", 1_u32)?.max(1);
    let seconds = options.number("seconds", 1.0_f64)?;
    // The first call of a connection pays for name resolution and pools: it is not part of the measurement.
    let mut warm = Vec::new();
    let mut encoding = None;
    for _ in 0..connections {
        let mut sender = connect(target).await?;
        encoding = exchange(&mut sender, &call).await.context("the first call")?;
        warm.push(sender);
    }
    let start = Start::now();
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let tasks: Vec<_> = warm
        .iter()
        .flat_map(|sender| (0..streams).map(move |_| sender.clone()))
        .map(|sender| tokio::spawn(run(sender, call.clone(), until)))
        .collect();
    let mut total = Seen::default();
    for task in tasks {
        total.add(task.await.context("a caller's task died")?);
    }
    let mut report = total.report(&start, connections);
    report["encoding"] = json!(encoding);
    println!("{report}");
    Ok(())
}

async fn run(mut sender: SendRequest<Unary>, call: Call, until: Instant) -> Seen {
    let mut seen = Seen::default();
    loop {
        let from = Instant::now();
        if from >= until {
            return seen;
        }
        match exchange(&mut sender, &call).await {
            Ok(_) => seen.success(from.elapsed()),
            Err(error) => {
                seen.failure(format!("{error:#}"));
                if sender.is_closed() {
                    return seen;
                }
            }
        }
    }
}

async fn connect(target: &str) -> anyhow::Result<SendRequest<Unary>> {
    let stream = TcpStream::connect(target)
        .await
        .with_context(|| format!("connect to {target}"))?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    // Its end is seen by the calls.
    tokio::spawn(connection);
    Ok(sender)
}

/// Makes a call and reads the whole answer; its encoding, when it has one.
async fn exchange(sender: &mut SendRequest<Unary>, call: &Call) -> anyhow::Result<Option<String>> {
    sender.ready().await?;
    let response = sender.send_request(call.request()).await?;
    ensure!(
        response.status() == 200,
        "answered with HTTP status {}",
        response.status()
    );
    let (head, mut body) = response.into_parts();
    let mut status = grpc_status(&head.headers);
    let mut messages = 0;
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => messages += data.len(),
            Err(frame) => status = frame.trailers_ref().and_then(grpc_status).or(status),
        }
    }
    let status = status.context("answered without a grpc-status")?;
    ensure!(status.starts_with("0 "), "answered with grpc-status {status}");
    ensure!(messages >= 5, "answered without a message");
    Ok(head
        .headers
        .get("grpc-encoding")
        .and_then(|encoding| Some(encoding.to_str().ok()?.to_owned())))
}

/// Code and words.
fn grpc_status(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    Some(format!(
        "{} {}",
        text("grpc-status")?,
        text("grpc-message").unwrap_or_default()
    ))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::grpc_app;

    async fn call(message: &str, path: &str) -> anyhow::Result<Option<String>> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let target = listener.local_addr()?.to_string();
        tokio::spawn(grpc_app::serve(listener));
        let texts = ["--target", &target, "--path", path, "--message", message];
        let options = Options::parse(texts.into_iter().map(str::to_owned))?;
        exchange(&mut connect(&target).await?, &Call::build(&options)?).await
    }

    #[tokio::test]
    async fn the_app_answers_every_call_of_the_generator() {
        assert_eq!(call("bytes", "/load.Echo/Call").await.unwrap(), None);
        call("invoke-service", "/dapr.proto.runtime.v1.AppCallback/OnInvoke")
            .await
            .unwrap();
        assert!(call("else", "/load.Echo/Call").await.is_err());
    }
}
