//! Routes that change while requests are served.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::body::Body as HttpBody;
use axum::response::Response;
use http::{Method, Request};
use prost_reflect::DescriptorPool;

use crate::transcoder::{Transcoder, not_found};
use crate::upstream::Upstream;

/// Routes of one backend.
#[derive(Clone)]
pub struct Mount {
    /// The backend's name.
    pub name: String,
    /// Its rules.
    pub transcoder: Arc<Transcoder>,
    /// Where its calls go.
    pub upstream: Arc<dyn Upstream>,
}

impl fmt::Debug for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mount")
            .field("name", &self.name)
            .field("transcoder", &self.transcoder)
            .finish_non_exhaustive()
    }
}

/// The routes of many backends, exchanged as a whole. A request keeps the table that it began with.
#[derive(Debug, Default)]
pub struct LiveRoutes(ArcSwap<Vec<Mount>>);

impl LiveRoutes {
    /// Serves these from now on. Where two backends claim a path, the earlier one has it.
    pub fn replace(&self, mounts: Vec<Mount>) {
        self.0.store(Arc::new(mounts));
    }

    /// What is served now.
    pub fn mounts(&self) -> Arc<Vec<Mount>> {
        self.0.load_full()
    }

    /// Whether a backend has this request.
    pub fn matches(&self, method: &Method, path: &str) -> bool {
        self.0
            .load()
            .iter()
            .any(|mount| mount.transcoder.matches(method, path))
    }

    /// Answers one request, as [`Transcoder::handle`] does.
    pub async fn handle(&self, request: Request<HttpBody>) -> Response {
        let mounts = self.mounts();
        let path = request.uri().path();
        match mounts
            .iter()
            .find(|mount| mount.transcoder.matches(request.method(), path))
        {
            Some(mount) => mount.transcoder.handle(mount.upstream.as_ref(), request).await,
            None => {
                let mut others: Vec<Method> = mounts
                    .iter()
                    .flat_map(|mount| mount.transcoder.methods(path))
                    .collect();
                others.sort_by(|a, b| a.as_str().cmp(b.as_str()));
                others.dedup();
                not_found(&DescriptorPool::new(), request.method(), path, &others)
            }
        }
    }
}
