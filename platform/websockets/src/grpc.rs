//! The service as gRPC methods (R4).

use outrigger_platform_wire::virtufin::web_socket_manager_server::WebSocketManager;
use outrigger_platform_wire::virtufin::{
    ConnectRequest, ConnectResponse, DisconnectRequest, Empty, GetTagRequest, GetTagResponse, GetTagsRequest,
    GetTagsResponse, ListRequest, ListResponse, SendRawRequest, SendRequest, SendResponse, SetTagRequest,
    SetTagsRequest, StartPublishRequest, StopPublishRequest, WebSocketConnection,
};
use tonic::{Request, Response, Status};

use crate::manager::{Connection, Manager};

fn done() -> Response<Empty> {
    Response::new(Empty {})
}

fn shown(connection: Connection) -> WebSocketConnection {
    let Connection {
        record,
        status,
        content_type,
    } = connection;
    WebSocketConnection {
        id: record.id,
        url: record.url,
        status: status.name().to_owned(),
        topic: record.topic.unwrap_or_default(),
        instance_id: record.instance_id,
        content_type,
        tags: record.tags.into_iter().collect(),
    }
}

#[tonic::async_trait]
impl WebSocketManager for Manager {
    async fn connect(&self, request: Request<ConnectRequest>) -> Result<Response<ConnectResponse>, Status> {
        let request = request.into_inner();
        let manager = self.clone();
        // A caller that goes away must not leave half a connection behind.
        let connect = tokio::spawn(async move {
            manager
                .connect(
                    &request.url,
                    request.auto_reconnect,
                    request.tags.into_iter().collect(),
                )
                .await
        });
        let (id, status) = connect
            .await
            .map_err(|error| Status::internal(error.to_string()))??;
        Ok(Response::new(ConnectResponse {
            id,
            status: status.name().to_owned(),
        }))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let filters: Vec<_> = request
            .into_inner()
            .filters
            .into_iter()
            .map(|filter| (filter.key, filter.value))
            .collect();
        let connections = Manager::list(self, &filters).await?;
        Ok(Response::new(ListResponse {
            connections: connections.into_iter().map(shown).collect(),
        }))
    }

    async fn disconnect(&self, request: Request<DisconnectRequest>) -> Result<Response<Empty>, Status> {
        let (manager, id) = (self.clone(), request.into_inner().id);
        let disconnect = tokio::spawn(async move { manager.disconnect(&id).await });
        disconnect
            .await
            .map_err(|error| Status::internal(error.to_string()))??;
        Ok(done())
    }

    async fn send(&self, request: Request<SendRequest>) -> Result<Response<SendResponse>, Status> {
        let SendRequest {
            id,
            message,
            timeout_ms,
            content_type,
        } = request.into_inner();
        let response = Manager::send(self, &id, message.into(), &content_type, timeout_ms).await?;
        Ok(Response::new(SendResponse {
            response: Vec::from(response).into(),
        }))
    }

    async fn send_raw(&self, request: Request<SendRawRequest>) -> Result<Response<Empty>, Status> {
        let SendRawRequest {
            id,
            message,
            content_type,
        } = request.into_inner();
        Manager::send_raw(self, &id, message.into(), &content_type).await?;
        Ok(done())
    }

    async fn start_publish(&self, request: Request<StartPublishRequest>) -> Result<Response<Empty>, Status> {
        let StartPublishRequest { id, topic } = request.into_inner();
        Manager::start_publish(self, &id, &topic).await?;
        Ok(done())
    }

    async fn stop_publish(&self, request: Request<StopPublishRequest>) -> Result<Response<Empty>, Status> {
        Manager::stop_publish(self, &request.into_inner().id).await?;
        Ok(done())
    }

    async fn set_tag(&self, request: Request<SetTagRequest>) -> Result<Response<Empty>, Status> {
        let SetTagRequest { id, key, value } = request.into_inner();
        Manager::set_tags(self, &id, |tags| {
            if value.is_empty() {
                tags.remove(&key);
            } else {
                tags.insert(key.clone(), value.clone());
            }
        })
        .await?;
        Ok(done())
    }

    async fn get_tag(&self, request: Request<GetTagRequest>) -> Result<Response<GetTagResponse>, Status> {
        let GetTagRequest { id, key } = request.into_inner();
        let value = self.tags(&id).await?.remove(&key);
        Ok(Response::new(GetTagResponse {
            found: value.is_some(),
            value: value.unwrap_or_default(),
        }))
    }

    async fn set_tags(&self, request: Request<SetTagsRequest>) -> Result<Response<Empty>, Status> {
        let SetTagsRequest { id, tags } = request.into_inner();
        Manager::set_tags(self, &id, |all| *all = tags.clone().into_iter().collect()).await?;
        Ok(done())
    }

    async fn get_tags(&self, request: Request<GetTagsRequest>) -> Result<Response<GetTagsResponse>, Status> {
        let tags = self.tags(&request.into_inner().id).await?;
        Ok(Response::new(GetTagsResponse {
            tags: tags.into_iter().collect(),
        }))
    }
}
