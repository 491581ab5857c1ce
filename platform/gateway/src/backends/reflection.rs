//! Reads the descriptors of a server by gRPC reflection, v1 or v1alpha: whole services with all that they import, with
//! bounds on what a server may send (G1.2). Custom options, such as HTTP rules, are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use outrigger_platform_wire::REFLECTION_BEHIND_SIDECAR;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_reflect::DescriptorPool;
use prost_types::FileDescriptorProto;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::client::{Grpc, GrpcService};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

/// The platform's own name first: a sidecar passes it on, while it answers the standard ones itself. Then the newest;
/// the messages are the same in all.
const PATHS: [&str; 3] = [
    REFLECTION_BEHIND_SIDECAR,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// What a server may send.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Services.
    pub services: usize,
    /// Files, imported ones included.
    pub files: usize,
    /// Bytes of all files together.
    pub bytes: usize,
    /// For everything.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            services: 256,
            files: 2_048,
            bytes: 16 << 20,
            time: Duration::from_secs(10),
        }
    }
}

/// What a server told.
#[derive(Debug, Clone)]
pub struct Descriptors {
    /// All files.
    pub pool: DescriptorPool,
    /// Full names of its services, sorted, without reflection itself.
    pub services: Vec<String>,
}

/// Why a server's descriptors are not known.
#[derive(Debug, thiserror::Error)]
pub enum ReflectionError {
    /// The call failed; `UNIMPLEMENTED` where the server has no reflection.
    #[error("reflection: {}: {}", .0.code(), .0.message())]
    Call(#[source] Box<Status>),
    /// It sent more than it may.
    #[error("reflection: the server tells of more than {0}")]
    TooMuch(String),
    /// What it sent makes no descriptors.
    #[error("reflection: {0}")]
    Descriptors(String),
    /// It did not tell all in time.
    #[error("reflection: not all was told within {0:?}")]
    Timeout(Duration),
}

impl From<Status> for ReflectionError {
    fn from(status: Status) -> Self {
        Self::Call(Box::new(status))
    }
}

/// Asks a server for its descriptors.
#[derive(Debug, Clone)]
pub struct Reflection<S> {
    service: S,
    limits: Limits,
}

impl<S> Reflection<S>
where
    S: GrpcService<Body> + Clone,
    S::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    /// Of the server behind a channel, or behind a service that adds metadata to it.
    pub fn new(service: S, limits: Limits) -> Self {
        Self { service, limits }
    }

    /// Reads all services and what they import. Well-known and google.api files that the server does not have come
    /// from those of this build.
    ///
    /// # Errors
    /// [`ReflectionError`]; nothing is kept then.
    pub async fn read(&self) -> Result<Descriptors, ReflectionError> {
        tokio::time::timeout(self.limits.time, self.read_all())
            .await
            .map_err(|_| ReflectionError::Timeout(self.limits.time))?
    }

    async fn read_all(&self) -> Result<Descriptors, ReflectionError> {
        let mut last = Status::unimplemented("no version of reflection");
        for path in PATHS {
            match self.read_by(path).await {
                Err(ReflectionError::Call(status)) if status.code() == Code::Unimplemented => last = *status,
                outcome => return outcome,
            }
        }
        Err(last.into())
    }

    async fn read_by(&self, path: &'static str) -> Result<Descriptors, ReflectionError> {
        let first = MessageRequest::ListServices(String::new());
        let (mut talk, answer) = Talk::open(self.service.clone(), path, first).await?;
        let services = match answer {
            MessageResponse::ListServicesResponse(list) => list.service,
            _ => return Err(Status::internal("the server lists no services").into()),
        };
        let services: BTreeSet<String> = services
            .into_iter()
            .map(|service| service.name)
            .filter(|name| !name.starts_with("grpc.reflection."))
            .collect();
        if services.contains("dapr.proto.runtime.v1.Dapr") {
            return Err(Status::failed_precondition(
                "the sidecar tells of itself, not of the app: give grpc.host and grpc.port, where the app's reflection is asked",
            )
            .into());
        }
        if services.len() > self.limits.services {
            return Err(ReflectionError::TooMuch(format!(
                "{} services",
                self.limits.services
            )));
        }
        let mut files = Files {
            limits: self.limits,
            encoded: BTreeMap::new(),
            bytes: 0,
            missing: BTreeSet::new(),
        };
        for name in &services {
            let answer = talk
                .ask(MessageRequest::FileContainingSymbol(name.clone()))
                .await?;
            files.take(answer)?;
        }
        while let Some(name) = files.missing.pop_first() {
            match talk.ask(MessageRequest::FileByFilename(name.clone())).await {
                Ok(answer) => files.take(answer)?,
                Err(status) => match known(&name) {
                    Some(file) => files.add(file.into())?,
                    None => return Err(status.into()),
                },
            }
        }
        let mut pool = DescriptorPool::new();
        pool.decode_file_descriptor_set(files.set().as_slice())
            .map_err(|error| ReflectionError::Descriptors(error.to_string()))?;
        if let Some(name) = services
            .iter()
            .find(|name| pool.get_service_by_name(name).is_none())
        {
            return Err(ReflectionError::Descriptors(format!("no file declares {name}")));
        }
        Ok(Descriptors {
            pool,
            services: services.into_iter().collect(),
        })
    }
}

/// A file that servers often leave out.
fn known(name: &str) -> Option<Vec<u8>> {
    outrigger_platform_wire::descriptor_pool()
        .get_file_by_name(name)
        .or_else(|| DescriptorPool::global().get_file_by_name(name))
        .filter(|file| file.name().starts_with("google/"))
        .map(|file| file.encode_to_vec())
}

struct Files {
    limits: Limits,
    encoded: BTreeMap<String, Bytes>,
    bytes: usize,
    /// Imported, and not told yet.
    missing: BTreeSet<String>,
}

impl Files {
    fn take(&mut self, answer: MessageResponse) -> Result<(), ReflectionError> {
        let MessageResponse::FileDescriptorResponse(answer) = answer else {
            return Err(Status::internal("the server answers with something else than files").into());
        };
        answer
            .file_descriptor_proto
            .into_iter()
            .try_for_each(|file| self.add(file.into()))
    }

    fn add(&mut self, encoded: Bytes) -> Result<(), ReflectionError> {
        let file = FileDescriptorProto::decode(encoded.clone())
            .map_err(|error| ReflectionError::Descriptors(error.to_string()))?;
        let name = file.name().to_owned();
        self.missing.remove(&name);
        self.bytes += encoded.len();
        if self.encoded.insert(name, encoded).is_some() {
            return Ok(());
        }
        if self.encoded.len() > self.limits.files {
            return Err(ReflectionError::TooMuch(format!("{} files", self.limits.files)));
        }
        if self.bytes > self.limits.bytes {
            return Err(ReflectionError::TooMuch(format!("{} bytes", self.limits.bytes)));
        }
        let missing = file
            .dependency
            .into_iter()
            .filter(|name| !self.encoded.contains_key(name));
        self.missing.extend(missing);
        Ok(())
    }

    /// The files as one encoded `FileDescriptorSet`, byte for byte as they were told: decoding and encoding them would
    /// lose custom options.
    fn set(&self) -> Vec<u8> {
        let mut set = Vec::with_capacity(self.bytes + self.encoded.len() * 8);
        for file in self.encoded.values() {
            encode_key(1, WireType::LengthDelimited, &mut set);
            encode_varint(file.len() as u64, &mut set);
            set.extend_from_slice(file);
        }
        set
    }
}

/// One stream of questions, each answered before the next.
struct Talk {
    questions: mpsc::Sender<ServerReflectionRequest>,
    answers: Streaming<ServerReflectionResponse>,
}

impl Talk {
    /// Opens the stream with its first question: a proxy, such as a Dapr sidecar, may answer nothing at all, not even
    /// that the call was taken, before the server has said something.
    async fn open<S>(
        service: S,
        path: &'static str,
        first: MessageRequest,
    ) -> Result<(Self, MessageResponse), Status>
    where
        S: GrpcService<Body>,
        S::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
        <S::ResponseBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        let mut grpc = Grpc::new(service).max_decoding_message_size(Limits::default().bytes);
        grpc.ready()
            .await
            .map_err(|error| Status::unavailable(error.into().to_string()))?;
        let (questions, stream) = mpsc::channel(1);
        let _ = questions.send(question(first)).await;
        let codec = ProstCodec::<ServerReflectionRequest, ServerReflectionResponse>::default();
        let request = Request::new(ReceiverStream::new(stream));
        let answers = grpc
            .streaming(request, PathAndQuery::from_static(path), codec)
            .await?;
        let mut talk = Self {
            questions,
            answers: answers.into_inner(),
        };
        let answer = talk.answer().await?;
        Ok((talk, answer))
    }

    async fn ask(&mut self, message: MessageRequest) -> Result<MessageResponse, Status> {
        // A stream that is closed says why when it is read.
        let _ = self.questions.send(question(message)).await;
        self.answer().await
    }

    async fn answer(&mut self) -> Result<MessageResponse, Status> {
        let answer = self
            .answers
            .message()
            .await?
            .and_then(|answer| answer.message_response)
            .ok_or_else(|| Status::unavailable("the server ended the stream"))?;
        match answer {
            MessageResponse::ErrorResponse(error) => {
                Err(Status::new(Code::from(error.error_code), error.error_message))
            }
            answer => Ok(answer),
        }
    }
}

fn question(message: MessageRequest) -> ServerReflectionRequest {
    ServerReflectionRequest {
        host: String::new(),
        message_request: Some(message),
    }
}
