//! Several resolvers asked in order: the runtime registry first, mDNS after it.

use futures::future::join_all;
use outrigger_component::{Error, ErrorKind};
use outrigger_name_resolution::{Addresses, Instance, Resolver, SharedResolver, Target};

/// Asks resolvers in the order given; the first that has addresses answers.
#[derive(Debug)]
pub struct Composite {
    resolvers: Vec<SharedResolver>,
}

impl Composite {
    /// A composite over these resolvers, the quickest first.
    #[must_use]
    pub fn new(resolvers: Vec<SharedResolver>) -> Self {
        Self { resolvers }
    }
}

impl Resolver for Composite {
    /// Announces the instance everywhere. One working resolver is enough, as a host without multicast still has
    /// its registry; the others' failures are logged.
    async fn register(&self, instance: Instance) -> Result<(), Error> {
        let outcomes = join_all(
            self.resolvers
                .iter()
                .map(|resolver| resolver.register(instance.clone())),
        )
        .await;
        let mut failure = None;
        let mut registered = false;
        for (resolver, outcome) in self.resolvers.iter().zip(outcomes) {
            match outcome {
                Ok(()) => registered = true,
                Err(error) => {
                    tracing::warn!(?resolver, error = %error.chain(), "a name resolver cannot announce this sidecar");
                    failure = Some(error);
                }
            }
        }
        match failure {
            Some(error) if !registered => Err(error),
            _ => Ok(()),
        }
    }

    async fn resolve(&self, target: &Target) -> Result<Addresses, Error> {
        let mut failure = None;
        for resolver in &self.resolvers {
            match resolver.resolve(target).await {
                Ok(addresses) => return Ok(addresses),
                Err(error) => failure = Some(keep_graver(failure, error)),
            }
        }
        // The slower resolvers took their time; an app that is just starting may have registered meanwhile.
        if self.resolvers.len() > 1
            && let Ok(addresses) = self.resolvers[0].resolve(target).await
        {
            return Ok(addresses);
        }
        Err(failure.unwrap_or_else(|| Error::new(ErrorKind::NotFound, "no name resolver is configured")))
    }

    fn report_failure(&self, target: &Target, address: &str) {
        for resolver in &self.resolvers {
            resolver.report_failure(target, address);
        }
    }

    async fn close(&self) -> Result<(), Error> {
        join_all(self.resolvers.iter().map(|resolver| resolver.close()))
            .await
            .into_iter()
            .collect()
    }
}

/// "Not found" only when every resolver says so; a resolver that could not look is the better explanation.
fn keep_graver(earlier: Option<Error>, error: Error) -> Error {
    match earlier {
        Some(earlier) if earlier.kind() != ErrorKind::NotFound && error.kind() == ErrorKind::NotFound => {
            earlier
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    /// Answers from a script, one entry per call; the last one repeats.
    #[derive(Debug)]
    struct Scripted {
        answers: Vec<Result<&'static str, ErrorKind>>,
        calls: AtomicUsize,
        registers: bool,
    }

    impl Scripted {
        fn new(registers: bool, answers: Vec<Result<&'static str, ErrorKind>>) -> Arc<Self> {
            Arc::new(Self {
                answers,
                calls: AtomicUsize::new(0),
                registers,
            })
        }
    }

    impl Resolver for Scripted {
        async fn register(&self, _: Instance) -> Result<(), Error> {
            if self.registers {
                Ok(())
            } else {
                Err(Error::unavailable("no multicast"))
            }
        }
        async fn resolve(&self, _: &Target) -> Result<Addresses, Error> {
            let call = self
                .calls
                .fetch_add(1, Ordering::Relaxed)
                .min(self.answers.len() - 1);
            self.answers[call]
                .map(|address| vec![address.to_owned()])
                .map_err(|kind| Error::new(kind, "scripted"))
        }
    }

    fn target() -> Target {
        Target {
            app_id: "orders".into(),
            namespace: "default".into(),
            port: 50002,
        }
    }

    fn instance() -> Instance {
        Instance {
            app_id: "orders".into(),
            namespace: "default".into(),
            internal_address: "127.0.0.1:50002".parse().unwrap(),
            http_port: 3500,
            app_port: 0,
            instance_id: "1".into(),
        }
    }

    #[tokio::test]
    async fn the_first_with_addresses_answers_and_the_rest_are_not_asked() {
        let second = Scripted::new(true, vec![Ok("b:1")]);
        let composite = Composite::new(vec![Scripted::new(true, vec![Ok("a:1")]), second.clone()]);
        assert_eq!(Resolver::resolve(&composite, &target()).await.unwrap(), ["a:1"]);
        assert_eq!(second.calls.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn the_next_is_asked_when_the_first_knows_nothing() {
        let composite = Composite::new(vec![
            Scripted::new(true, vec![Err(ErrorKind::NotFound)]),
            Scripted::new(true, vec![Ok("b:1")]),
        ]);
        assert_eq!(Resolver::resolve(&composite, &target()).await.unwrap(), ["b:1"]);
    }

    #[tokio::test]
    async fn an_app_that_registers_during_the_browse_is_found() {
        let composite = Composite::new(vec![
            Scripted::new(true, vec![Err(ErrorKind::NotFound), Ok("a:1")]),
            Scripted::new(true, vec![Err(ErrorKind::NotFound)]),
        ]);
        assert_eq!(Resolver::resolve(&composite, &target()).await.unwrap(), ["a:1"]);
    }

    #[tokio::test]
    async fn the_graver_failure_is_reported() {
        let composite = Composite::new(vec![
            Scripted::new(true, vec![Err(ErrorKind::Forbidden)]),
            Scripted::new(true, vec![Err(ErrorKind::NotFound)]),
        ]);
        assert_eq!(
            Resolver::resolve(&composite, &target()).await.unwrap_err().kind(),
            ErrorKind::Forbidden
        );
        let none = Composite::new(Vec::new());
        assert_eq!(
            Resolver::resolve(&none, &target()).await.unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }

    #[tokio::test]
    async fn one_working_resolver_is_enough_to_register() {
        let half = Composite::new(vec![
            Scripted::new(false, vec![Ok("a")]),
            Scripted::new(true, vec![Ok("b")]),
        ]);
        Resolver::register(&half, instance()).await.unwrap();
        let none = Composite::new(vec![Scripted::new(false, vec![Ok("a")])]);
        assert_eq!(
            Resolver::register(&none, instance()).await.unwrap_err().kind(),
            ErrorKind::Unavailable
        );
    }
}
