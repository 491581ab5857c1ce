//! `virtufin.Config`: the services as they are configured.

use outrigger_platform_wire::virtufin::config_server::Config;
use outrigger_platform_wire::virtufin::{
    ConfigService, CronJobConfig, GetConfigServiceRequest, GetConfigServiceResponse, GrpcConfig, JobsConfig,
    ListConfigServicesRequest, ListConfigServicesResponse, PubsubConfig, StateConfig,
};
use tonic::{Request, Response, Status};

use crate::services::{Catalog, Service};

/// Tells the catalog.
#[derive(Debug, Clone)]
pub struct ConfigApi {
    /// The services.
    pub catalog: Catalog,
    /// The component of services that name none.
    pub pubsub: String,
    /// The store of services that name none.
    pub store: String,
}

impl ConfigApi {
    fn told(&self, service: &Service) -> ConfigService {
        let or = |name: &str, default: &str| if name.is_empty() { default } else { name }.to_owned();
        ConfigService {
            name: service.name.clone(),
            dapr_app_id: service.dapr_app_id.clone(),
            grpc: Some(GrpcConfig {
                host: service.grpc.host.clone(),
                port: service.grpc.port.into(),
                reflection_enabled: service.grpc.reflection_enabled,
            }),
            pubsub: Some(PubsubConfig {
                pubsub_name: or(&service.pubsub.pubsub_name, &self.pubsub),
            }),
            state: Some(StateConfig {
                store_name: or(&service.state.store_name, &self.store),
                keys: service.state.keys.clone(),
            }),
            jobs: Some(JobsConfig {
                crons: service
                    .jobs
                    .crons
                    .iter()
                    .map(|cron| CronJobConfig {
                        name: cron.name.clone(),
                        schedule: cron.schedule.clone(),
                        topic: cron.topic.clone(),
                        method: cron.method.clone(),
                        data: cron.data_text(),
                    })
                    .collect(),
            }),
        }
    }
}

#[tonic::async_trait]
impl Config for ConfigApi {
    async fn list_services(
        &self,
        _: Request<ListConfigServicesRequest>,
    ) -> Result<Response<ListConfigServicesResponse>, Status> {
        let services = self.catalog.services();
        Ok(Response::new(ListConfigServicesResponse {
            services: services.iter().map(|service| self.told(service)).collect(),
        }))
    }

    async fn get_service(
        &self,
        request: Request<GetConfigServiceRequest>,
    ) -> Result<Response<GetConfigServiceResponse>, Status> {
        let name = request.into_inner().name;
        let service = self
            .catalog
            .service(&name)
            .ok_or_else(|| Status::not_found(format!("no service {name:?} is configured")))?;
        Ok(Response::new(GetConfigServiceResponse {
            service: Some(self.told(&service)),
        }))
    }
}
