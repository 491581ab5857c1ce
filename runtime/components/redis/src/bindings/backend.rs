//! The output.

use outrigger_bindings::{InvokeError, InvokeRequest, InvokeResponse, OutputBinding};
use outrigger_component::{Error, Metadata};
use outrigger_engine_dispatch::ttl;
use redis::{Cmd, Value, pipe};

use crate::{
    failure::{failed, unexpected},
    link::{Link, Safety},
    settings::Settings,
};

/// `bindings.redis`: `create`, `get`, `delete` and `increment` of the key that the metadata names.
#[derive(Debug)]
pub struct RedisBinding {
    link: Link,
}

fn unreachable(host: &str, error: Error) -> Error {
    Error::new(
        error.kind(),
        format!("redis binding: error connecting to redis at {host}"),
    )
    .with_source(error)
}

impl RedisBinding {
    pub(super) async fn open(settings: Settings) -> Result<Self, Error> {
        let host = settings.host();
        let link = Link::open(settings)
            .await
            .map_err(|error| unreachable(&host, error))?;
        link.ping().await.map_err(|error| unreachable(&host, error))?;
        Ok(Self { link })
    }

    /// Writes, and sets the time to live the request names.
    async fn write(&self, command: Cmd, key: &str, metadata: &Metadata, safety: Safety) -> Result<(), Error> {
        let Some(time) = ttl(metadata).map_err(|error| Error::invalid(error.to_string()))? else {
            return self.link.command(&command, safety).await.map(drop);
        };
        let mut commands = pipe();
        commands
            .add_command(command)
            .cmd("EXPIRE")
            .arg(key)
            .arg(time.to_std_or_zero().as_secs());
        for answer in self.link.pipeline(&commands, safety).await? {
            answer.extract_error().map_err(|error| failed(&error))?;
        }
        Ok(())
    }
}

impl OutputBinding for RedisBinding {
    fn operations(&self) -> Vec<&str> {
        vec!["create", "delete", "get", "increment"]
    }

    async fn invoke(&self, request: InvokeRequest) -> Result<Option<InvokeResponse>, InvokeError> {
        let key = request
            .metadata
            .get("key")
            .filter(|key| !key.is_empty())
            .ok_or_else(|| Error::invalid("redis binding: missing key in request metadata"))?;
        let command = |name: &str| {
            let mut command = redis::cmd(name);
            command.arg(key);
            command
        };
        match request.operation.as_str() {
            "delete" => {
                self.link.command(&command("DEL"), Safety::Repeatable).await?;
            }
            "get" => {
                let take = request
                    .metadata
                    .get("delete")
                    .is_some_and(|delete| delete == "true");
                let (name, safety) = if take {
                    ("GETDEL", Safety::Once)
                } else {
                    ("GET", Safety::Repeatable)
                };
                return match self.link.command(&command(name), safety).await? {
                    Value::Nil => Ok(Some(InvokeResponse::default())),
                    Value::BulkString(data) => Ok(Some(InvokeResponse {
                        data: Some(data.into()),
                        ..InvokeResponse::default()
                    })),
                    _ => Err(unexpected("GET").into()),
                };
            }
            "create" => {
                let mut set = command("SET");
                set.arg(&request.data[..]);
                self.write(set, key, &request.metadata, Safety::Repeatable)
                    .await?;
            }
            "increment" => {
                self.write(command("INCR"), key, &request.metadata, Safety::Once)
                    .await?;
            }
            other => return Err(Error::invalid(format!("invalid operation type: {other}")).into()),
        }
        Ok(None)
    }

    async fn ping(&self) -> Result<(), Error> {
        let host = self.link.settings().host();
        self.link.ping().await.map_err(|error| unreachable(&host, error))
    }

    async fn close(&self) -> Result<(), Error> {
        self.link.close();
        Ok(())
    }
}
