//! The six services in this process, each beside an in-memory sidecar; `tasks` twice.

use std::collections::BTreeMap;

use outrigger_kit::CancellationToken;
use outrigger_kit::testing::{Cluster, Sidecar};
use outrigger_todo::instance::Instance;
use outrigger_todo::{app_id, chat, gateway, notifications, preferences, stats, tasks};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const MEMBERS: [(&str, &str); 7] = [
    ("notifications", app_id::NOTIFICATIONS),
    ("stats", app_id::STATS),
    ("preferences", app_id::PREFERENCES),
    ("chat", app_id::CHAT),
    ("tasks-1", app_id::TASKS),
    ("tasks-2", app_id::TASKS),
    ("gateway", app_id::GATEWAY),
];

pub(crate) struct House {
    pub(crate) cluster: Cluster,
    pub(crate) url: String,
    /// The component that the chat asks what a sentence means.
    conversation: Option<&'static str>,
    members: BTreeMap<&'static str, Member>,
}

struct Member {
    sidecar: Sidecar,
    stop: CancellationToken,
    served: JoinHandle<()>,
}

impl House {
    pub(crate) async fn open() -> Self {
        Self::open_on(Cluster::new(), None).await
    }

    /// Opens it in a cluster that has been furnished.
    pub(crate) async fn open_on(cluster: Cluster, conversation: Option<&'static str>) -> Self {
        let mut house = Self {
            cluster,
            url: String::new(),
            conversation,
            members: BTreeMap::new(),
        };
        for (name, _) in MEMBERS {
            house.start(name).await;
        }
        house
    }

    /// Starts a member that is not there.
    pub(crate) async fn start(&mut self, name: &'static str) {
        let app = MEMBERS.iter().find(|(member, _)| *member == name).unwrap().1;
        let sidecar = self
            .cluster
            .sidecar_with_tokens(app, "sidecar-token", "app-token")
            .await
            .unwrap();
        let mut environment = sidecar.environment();
        environment.insert("DAPR_RETRY_BASE_DELAY_MS".to_owned(), "20".to_owned());
        // As in dapr.yaml: with the kit's default of half a minute, live news of a service that is back come so late.
        environment.insert("DAPR_CIRCUIT_BREAKER_DURATION_SECONDS".to_owned(), "1".to_owned());
        let instance = Instance::new(app, name, environment).unwrap().named(name);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        sidecar.attach(listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let ended = stop.clone().cancelled_owned();
        let service = match app {
            app_id::TASKS => tasks::app(&instance).unwrap(),
            app_id::NOTIFICATIONS => notifications::app(&instance).unwrap(),
            app_id::PREFERENCES => preferences::app(&instance).unwrap(),
            app_id::STATS => stats::app(&instance).unwrap(),
            app_id::CHAT => chat::app(&instance, self.conversation).unwrap(),
            _ => {
                let (service, gateway) = gateway::app(&instance).unwrap();
                // A gateway that comes back is where it was, so that pages find it.
                let address = self
                    .url
                    .strip_prefix("http://")
                    .unwrap_or("127.0.0.1:0")
                    .to_owned();
                let page = TcpListener::bind(address).await.unwrap();
                self.url = format!("http://{}", page.local_addr().unwrap());
                let (routes, stopping, watcher) = (gateway.routes(), gateway.stopping(), gateway.clone());
                tokio::spawn(async move { watcher.watch().await });
                tokio::spawn(async move {
                    let served = axum::serve(page, routes).with_graceful_shutdown(stopping.cancelled_owned());
                    served.await.unwrap();
                });
                service
            }
        };
        let served = tokio::spawn(async move { service.serve(listener, ended).await.unwrap() });
        self.members.insert(
            name,
            Member {
                sidecar,
                stop,
                served,
            },
        );
    }

    /// Stops a member and its sidecar in order.
    pub(crate) async fn stop(&mut self, name: &str) {
        let member = self.members.remove(name).unwrap();
        member.stop.cancel();
        member.served.await.unwrap();
    }

    /// Ends a member at once: what it was about to do does not happen.
    pub(crate) async fn kill(&mut self, name: &str) {
        let member = self.members.remove(name).unwrap();
        member.served.abort();
        let _ = member.served.await;
    }

    /// Lets an input binding of a member read something; tells whether it was taken.
    pub(crate) async fn read_binding(&self, name: &str, binding: &str) -> bool {
        self.members[name].sidecar.read_binding(binding, "").await
    }

    /// Cuts a member's sidecar off, or brings it back.
    pub(crate) fn set_sidecar_down(&self, name: &str, down: bool) {
        self.members[name].sidecar.set_down(down);
    }
}
