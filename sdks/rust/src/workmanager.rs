//! The worker manager: user code that turns events into events.

use std::collections::BTreeMap;

use bytes::Bytes;
use outrigger_platform_wire::virtufin::{
    CodeSource, CreateWorkerRequest, DeleteWorkerRequest, GetWorkerHistoryRequest, HistoryEntry,
    ListWorkersRequest, LoadCodeFromContentRequest, LoadCodeFromUrlRequest, LoadCodeRequest,
    RecoverWorkersRequest, SourceCredential, StartWorkerRequest, StopWorkerRequest, TagFilter, WorkerInfo,
    code_source::Source, work_manager_client::WorkManagerClient as Stub,
};
use tonic::transport::Channel;

use crate::{
    Error, Options,
    link::{Link, Transport},
    tags::tags,
};

/// `virtufin.WorkManager`.
#[derive(Debug, Clone)]
pub struct WorkManagerClient {
    link: Link,
}

/// Code to be fetched by the worker manager.
pub fn code_from_url(url: impl Into<String>) -> CodeSource {
    CodeSource {
        source: Some(Source::Url(url.into())),
        ..CodeSource::default()
    }
}

/// Code itself.
pub fn code_from_content(content: impl Into<Bytes>) -> CodeSource {
    CodeSource {
        source: Some(Source::Content(content.into())),
        ..CodeSource::default()
    }
}

impl WorkManagerClient {
    /// A client that connects at its first call. Must be called where a Tokio runtime is.
    ///
    /// # Errors
    /// [`Error::Options`].
    pub fn new(options: &Options) -> Result<Self, Error> {
        Ok(Self {
            link: Link::lazy(options)?,
        })
    }

    /// A client over a connection made elsewhere, such as one with TLS; host and port of the options are not looked at.
    ///
    /// # Errors
    /// [`Error::Options`].
    pub fn over(channel: Channel, options: &Options) -> Result<Self, Error> {
        Ok(Self {
            link: Link::over(channel, options)?,
        })
    }

    fn stub(&self) -> Stub<Transport> {
        Stub::new(self.link.transport())
    }

    /// Makes a worker, which runs at once unless the request says otherwise; gives its id.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for code, MIME type or topic that will not do, [`Error::PermissionDenied`] for a URL
    /// that may not be fetched, else the status of the service.
    pub async fn create_worker(&self, request: CreateWorkerRequest) -> Result<String, Error> {
        Ok(self.link.unary(self.stub().create_worker(request)).await?.id)
    }

    /// The workers that carry all of these tags; all without one.
    ///
    /// # Errors
    /// The status of the service.
    pub async fn list_workers(&self, filters: Vec<TagFilter>) -> Result<Vec<WorkerInfo>, Error> {
        let request = ListWorkersRequest { filters };
        Ok(self.link.unary(self.stub().list_workers(request)).await?.workers)
    }

    /// Removes a worker, running or not.
    ///
    /// # Errors
    /// [`Error::NotFound`], else the status of the service.
    pub async fn delete_worker(&self, id: impl Into<String>) -> Result<(), Error> {
        let request = DeleteWorkerRequest { id: id.into() };
        self.link
            .unary(self.stub().delete_worker(request))
            .await
            .map(drop)
    }

    /// Starts a worker; one that runs is left as it is.
    ///
    /// # Errors
    /// [`Error::NotFound`], else the status of the service.
    pub async fn start_worker(&self, id: impl Into<String>) -> Result<(), Error> {
        let request = StartWorkerRequest { id: id.into() };
        self.link.unary(self.stub().start_worker(request)).await.map(drop)
    }

    /// Stops a worker; one that does not run is left as it is.
    ///
    /// # Errors
    /// [`Error::NotFound`], else the status of the service.
    pub async fn stop_worker(&self, id: impl Into<String>) -> Result<(), Error> {
        let request = StopWorkerRequest { id: id.into() };
        self.link.unary(self.stub().stop_worker(request)).await.map(drop)
    }

    /// Brings persisted workers back; gives their number.
    ///
    /// # Errors
    /// The status of the service.
    pub async fn recover_workers(&self) -> Result<i32, Error> {
        let request = RecoverWorkersRequest {};
        let answer = self.link.unary(self.stub().recover_workers(request)).await?;
        Ok(answer.recovered_count)
    }

    /// The code that a worker has had, oldest first.
    ///
    /// # Errors
    /// [`Error::NotFound`], else the status of the service.
    pub async fn get_worker_history(&self, id: impl Into<String>) -> Result<Vec<HistoryEntry>, Error> {
        let request = GetWorkerHistoryRequest { id: id.into() };
        let answer = self.link.unary(self.stub().get_worker_history(request)).await?;
        Ok(answer.entries)
    }

    /// Gives a worker new code.
    ///
    /// # Errors
    /// As [`Self::create_worker`]; [`Error::NotFound`].
    pub async fn load_code_from_content(
        &self,
        id: impl Into<String>,
        content: impl Into<Bytes>,
    ) -> Result<(), Error> {
        let request = LoadCodeFromContentRequest {
            id: id.into(),
            content: content.into(),
            content_sha256: String::new(),
        };
        let call = self.link.unary(self.stub().load_code_from_content(request)).await;
        call.map(drop)
    }

    /// Gives a worker new code that the service fetches.
    ///
    /// # Errors
    /// As [`Self::create_worker`]; [`Error::NotFound`].
    pub async fn load_code_from_url(
        &self,
        id: impl Into<String>,
        url: impl Into<String>,
        credential: Option<SourceCredential>,
    ) -> Result<(), Error> {
        let request = LoadCodeFromUrlRequest {
            id: id.into(),
            url: url.into(),
            credential,
            content_sha256: String::new(),
        };
        self.link
            .unary(self.stub().load_code_from_url(request))
            .await
            .map(drop)
    }

    /// Gives a worker new code of either kind, with its hash if it is to be checked.
    ///
    /// # Errors
    /// As [`Self::create_worker`]; [`Error::NotFound`].
    pub async fn load_code(&self, id: impl Into<String>, source: CodeSource) -> Result<(), Error> {
        let request = LoadCodeRequest {
            id: id.into(),
            code_source: Some(source),
        };
        self.link.unary(self.stub().load_code(request)).await.map(drop)
    }
}

tags!(WorkManagerClient, "worker");
