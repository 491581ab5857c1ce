//! `virtufin.State`.

use outrigger_platform_wire::virtufin::state_server::State;
use outrigger_platform_wire::virtufin::{
    DeleteStateRequest, DeleteStateResponse, GetAllStateRequest, GetAllStateResponse, GetStateRequest,
    GetStateResponse, RegisterKeysRequest, RegisterKeysResponse, SaveStateRequest, SaveStateResponse,
};
use tonic::{Request, Response, Status};

use super::done;
use crate::state::{Expect, States};

/// State over gRPC.
#[derive(Debug, Clone)]
pub struct StateApi(pub States);

#[tonic::async_trait]
impl State for StateApi {
    async fn save_state(
        &self,
        request: Request<SaveStateRequest>,
    ) -> Result<Response<SaveStateResponse>, Status> {
        let request = request.into_inner();
        let expect = match (request.create_only, request.etag.as_str()) {
            (true, "") => Expect::Absent,
            (true, _) => {
                return Err(Status::invalid_argument(
                    "create_only and etag exclude each other",
                ));
            }
            (false, "") => Expect::Any,
            (false, etag) => Expect::Etag(etag),
        };
        let written = self
            .0
            .save(
                &request.service,
                &request.key,
                &request.value,
                expect,
                request.include_value,
            )
            .await?;
        Ok(Response::new(SaveStateResponse {
            status: done(written.remark),
            etag: written.etag,
        }))
    }

    async fn get_state(
        &self,
        request: Request<GetStateRequest>,
    ) -> Result<Response<GetStateResponse>, Status> {
        let GetStateRequest { service, key } = request.into_inner();
        let (value, etag) = self.0.get(&service, &key).await?.unwrap_or_default();
        Ok(Response::new(GetStateResponse { key, value, etag }))
    }

    async fn get_all_state(
        &self,
        request: Request<GetAllStateRequest>,
    ) -> Result<Response<GetAllStateResponse>, Status> {
        let values = self.0.all(&request.into_inner().service).await?;
        Ok(Response::new(GetAllStateResponse { values }))
    }

    async fn register_keys(
        &self,
        request: Request<RegisterKeysRequest>,
    ) -> Result<Response<RegisterKeysResponse>, Status> {
        let RegisterKeysRequest { service, keys } = request.into_inner();
        self.0.register(&service, &keys).await?;
        Ok(Response::new(RegisterKeysResponse { status: done(None) }))
    }

    async fn delete_state(
        &self,
        request: Request<DeleteStateRequest>,
    ) -> Result<Response<DeleteStateResponse>, Status> {
        let request = request.into_inner();
        let etag = Some(request.etag.as_str()).filter(|etag| !etag.is_empty());
        let remark = self
            .0
            .delete(&request.service, &request.key, etag, request.include_value)
            .await?;
        Ok(Response::new(DeleteStateResponse { status: done(remark) }))
    }
}
