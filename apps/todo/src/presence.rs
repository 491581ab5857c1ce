//! Who is there: every instance writes a sign of life to the state store, the page's status strip reads them.

use std::collections::BTreeMap;
use std::time::Duration;

use outrigger_kit::client::Operation;
use outrigger_kit::{CancellationToken, Client, Error};
use serde::{Deserialize, Serialize};

use crate::instance::Instance;
use crate::model::now;

/// How often a sign of life is written.
const EVERY: Duration = Duration::from_secs(1);
/// Without one for so long an instance counts as down (ms): three may be late.
pub const STALE: i64 = 3_500;
/// Instances that have been down for so long are forgotten (ms).
const FORGOTTEN: i64 = 120_000;
const TRIES: usize = 4;

/// The last sign of life of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sign {
    /// Which instance.
    pub instance: String,
    /// When.
    pub at: i64,
    /// Where its sidecar listens.
    pub sidecar: String,
    /// How many events wait in it to be sent.
    pub waiting: usize,
}

/// The signs of one app by slot: an instance that is started again takes the place of its predecessor.
pub type Signs = BTreeMap<String, Sign>;

#[derive(Debug)]
pub(crate) struct Presence(Instance);

fn key(app: &str) -> String {
    format!("todo/presence/{app}")
}

impl Presence {
    pub(crate) fn new(instance: Instance) -> Self {
        Self(instance)
    }

    /// Writes signs of life until `stop`, then takes leave: who goes on purpose is not missed. A failure needs no
    /// word here: it shows as silence.
    pub(crate) async fn announce(&self, waiting: impl Fn() -> usize, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.write(Some(waiting())).await;
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = stop.cancelled() => {}
            }
        }
        self.write(None).await;
    }

    /// Instances of one app meet here; the loser tries again at once, the sign is a second late at worst.
    async fn write(&self, waiting: Option<usize>) {
        for _ in 0..TRIES {
            match self.sign(waiting).await {
                Err(Error::Conflict { .. }) => {}
                Ok(()) => return,
                Err(error) => return tracing::debug!(%error, "no sign of life written"),
            }
        }
    }

    async fn sign(&self, waiting: Option<usize>) -> Result<(), Error> {
        let instance = &self.0;
        let state = instance.client.state(&*instance.store);
        let stored = state.get::<Signs>(&key(instance.app)).await?;
        let (mut signs, etag) = stored.map_or_else(Default::default, |item| (item.value, item.etag));
        let at = now();
        signs.retain(|_, sign| at - sign.at < FORGOTTEN);
        match waiting {
            None => signs.remove(&*instance.slot),
            Some(waiting) => signs.insert(
                instance.slot.to_string(),
                Sign {
                    instance: instance.name.to_string(),
                    at,
                    sidecar: instance.client.endpoint().to_string(),
                    waiting,
                },
            ),
        };
        let write = Operation::upsert(key(instance.app), &signs)?.if_match(etag.as_deref());
        state.save(&[write]).await
    }
}

/// Reads the signs of these apps, in their order.
///
/// # Errors
/// Those of the sidecar.
pub async fn read(client: &Client, store: &str, apps: &[&str]) -> Result<Vec<Signs>, Error> {
    let keys: Vec<_> = apps.iter().map(|app| key(app)).collect();
    let found = client.state(store).get_bulk::<Signs>(&keys).await?;
    Ok(found
        .into_iter()
        .map(|item| item.map(|item| item.value).unwrap_or_default())
        .collect())
}
