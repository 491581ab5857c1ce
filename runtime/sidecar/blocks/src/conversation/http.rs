//! The HTTP surface: protojson both ways; the path's name wins over the body's.

use std::sync::Arc;

use http::{Method, Response};
use outrigger_sidecar_api::{ApiError, ApiRequest, Body, Endpoint, Group, handler};
use outrigger_wire::{
    dapr::proto::runtime::v1::{ConversationRequest, ConversationRequestAlpha2},
    json::Render,
};

use super::ConversationService;
use crate::call::{read_proto, reply_proto};

impl ConversationService {
    /// The endpoints of the conversation APIs.
    #[must_use]
    pub fn endpoints(self: &Arc<Self>) -> Vec<Endpoint> {
        const POST: &[Method] = &[Method::POST];
        const ROUTE: &str = "conversation/{name}/converse";
        const ALPHA1: Group = Group {
            name: "conversation",
            version: "v1alpha1",
        };
        const ALPHA2: Group = Group {
            name: "conversation",
            version: "v1alpha2",
        };
        vec![
            Endpoint::new(
                POST,
                "v1.0-alpha1",
                ROUTE,
                ALPHA1,
                "Converse",
                handler(self, Self::http_alpha1),
            ),
            Endpoint::new(
                POST,
                "v1.0-alpha2",
                ROUTE,
                ALPHA2,
                "Converse",
                handler(self, Self::http_alpha2),
            ),
        ]
    }

    async fn http_alpha1(self: Arc<Self>, mut request: ApiRequest) -> Result<Response<Body>, ApiError> {
        let mut message: ConversationRequest =
            read_proto(&mut request, "dapr.proto.runtime.v1.ConversationRequest").await?;
        message.name = request.param("name").to_owned();
        let answer = self.grpc_converse_alpha1(message).await?;
        reply_proto(
            "dapr.proto.runtime.v1.ConversationResponse",
            &answer,
            Render::default(),
        )
    }

    async fn http_alpha2(self: Arc<Self>, mut request: ApiRequest) -> Result<Response<Body>, ApiError> {
        let mut message: ConversationRequestAlpha2 =
            read_proto(&mut request, "dapr.proto.runtime.v1.ConversationRequestAlpha2").await?;
        message.name = request.param("name").to_owned();
        let answer = self.grpc_converse_alpha2(message).await?;
        reply_proto(
            "dapr.proto.runtime.v1.ConversationResponseAlpha2",
            &answer,
            Render::default(),
        )
    }
}
