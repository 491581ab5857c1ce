//! Operations that succeed or fail each by itself, over several attempts (upstream
//! `pkg/components/state/bulk.go`).

use std::sync::{Mutex, MutexGuard, PoisonError};

use outrigger_component::{Error, ErrorKind, Retry};
use outrigger_state::Operation;

/// What is left to do and what has failed for good. An attempt that is dropped half-way, by a time-out, leaves it all
/// to the next one.
pub(crate) struct Batch(Mutex<Vec<Item>>);

/// One operation, in the order of the request.
enum Item {
    Left(Operation),
    Done,
    Failed(Error),
}

impl Batch {
    /// An entry that is an error has failed before it began.
    pub(crate) fn new(operations: Vec<Result<Operation, Error>>) -> Self {
        let items = operations
            .into_iter()
            .map(|operation| operation.map_or_else(Item::Failed, Item::Left));
        Self(Mutex::new(items.collect()))
    }

    fn items(&self) -> MutexGuard<'_, Vec<Item>> {
        // Nothing that is done under the lock leaves an item half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The operations to try now, with their places.
    pub(crate) fn left(&self) -> (Vec<usize>, Vec<Operation>) {
        let items = self.items();
        let left = items.iter().enumerate().filter_map(|(place, item)| match item {
            Item::Left(operation) => Some((place, operation.clone())),
            Item::Done | Item::Failed(_) => None,
        });
        left.unzip()
    }

    /// Notes how an attempt ended, by the places of the operations.
    ///
    /// # Errors
    /// What failed so far, where some of it may be tried again.
    pub(crate) fn settle<T>(
        &self,
        answers: impl Iterator<Item = (usize, Result<T, Error>)>,
    ) -> Result<(), Error> {
        let mut items = self.items();
        let mut again: Vec<(usize, Error)> = Vec::new();
        for (place, answer) in answers {
            let Some(item) = items.get_mut(place) else {
                continue;
            };
            match answer {
                Ok(_) => *item = Item::Done,
                Err(error) if error.retry() == Retry::Transient => again.push((place, error)),
                Err(error) => *item = Item::Failed(error),
            }
        }
        if again.is_empty() {
            return Ok(());
        }
        let mut failed: Vec<(usize, &Error)> = again.iter().map(|(place, error)| (*place, error)).collect();
        failed.extend(failures(&items));
        failed.sort_by_key(|(place, _)| *place);
        Err(join(&failed).with_retry(Retry::Transient))
    }

    /// What failed for good, once no attempt is left to make.
    pub(crate) fn failure(&self) -> Option<Error> {
        let items = self.items();
        let failed: Vec<_> = failures(&items).collect();
        (!failed.is_empty()).then(|| join(&failed).with_retry(Retry::Permanent))
    }
}

fn failures(items: &[Item]) -> impl Iterator<Item = (usize, &Error)> {
    items.iter().enumerate().filter_map(|(place, item)| match item {
        Item::Failed(error) => Some((place, error)),
        Item::Left(_) | Item::Done => None,
    })
}

fn is_etag(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::EtagMismatch | ErrorKind::EtagInvalid)
}

/// Several errors as one, a line for each; errors about etags alone are wrapped once more. An answer that the
/// component decided itself is kept.
fn join(failed: &[(usize, &Error)]) -> Error {
    let mut lines: Vec<String> = Vec::with_capacity(failed.len());
    for (_, error) in failed {
        let line = error.chain();
        // What failed a whole call of the component, as of a pluggable one, stands at each of its items; it is one error.
        if is_etag(error) || lines.last() != Some(&line) {
            lines.push(line);
        }
    }
    let text = lines.join("\n");
    let mut etags = failed
        .iter()
        .map(|(_, error)| *error)
        .filter(|error| is_etag(error));
    let error = if failed.iter().all(|(_, error)| is_etag(error)) {
        if etags.any(|error| error.kind() == ErrorKind::EtagInvalid) {
            Error::new(ErrorKind::EtagInvalid, format!("invalid etag value: {text}"))
        } else {
            outrigger_state::etag_mismatch().with_source(text)
        }
    } else {
        // The first error about an etag decides the code, as Go finds it among joined ones.
        let kind = etags
            .next()
            .or_else(|| failed.first().map(|(_, error)| *error))
            .map_or(ErrorKind::Internal, Error::kind);
        Error::new(kind, text)
    };
    match failed.iter().find_map(|(_, error)| error.answer()) {
        Some(answer) => error.with_answer(answer.clone()),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use outrigger_state::{Expect, WriteOptions, etag_mismatch};

    use super::*;

    fn operation(key: &str) -> Result<Operation, Error> {
        Ok(Operation::Delete {
            key: key.into(),
            expect: Expect::Any,
            options: WriteOptions::default(),
        })
    }

    fn settle(batch: &Batch, answers: Vec<Result<(), Error>>) -> Result<(), Error> {
        batch.settle(batch.left().0.into_iter().zip(answers))
    }

    /// Texts as measured beside daprd 1.18.2 with `state.sqlite`.
    #[test]
    fn failures_are_told_together() {
        let batch = Batch::new(vec![operation("a"), operation("b"), operation("c")]);
        settle(&batch, vec![Ok(()), Err(etag_mismatch()), Err(etag_mismatch())]).unwrap();
        let error = batch.failure().unwrap();
        assert_eq!(error.kind(), ErrorKind::EtagMismatch);
        assert_eq!(
            error.chain(),
            "possible etag mismatch. error from state store: possible etag mismatch. error from state store\n\
             possible etag mismatch. error from state store"
        );
        let batch = Batch::new(vec![operation("a"), operation("b")]);
        settle(&batch, vec![Ok(()), Err(etag_mismatch())]).unwrap();
        assert_eq!(
            batch.failure().unwrap().chain(),
            "possible etag mismatch. error from state store: possible etag mismatch. error from state store"
        );
    }

    #[test]
    fn what_failed_as_one_is_told_once() {
        let batch = Batch::new(vec![operation("a"), operation("b"), operation("c")]);
        let refused = || Err(Error::invalid("the component refused"));
        settle(&batch, vec![refused(), refused(), Err(Error::invalid("other"))]).unwrap();
        assert_eq!(batch.failure().unwrap().chain(), "the component refused\nother");
    }

    #[test]
    fn what_cannot_be_formed_fails_beside_the_rest() {
        let batch = Batch::new(vec![Err(Error::invalid("no")), operation("b")]);
        assert_eq!(batch.left().0, [1]);
        settle(&batch, vec![Err(etag_mismatch())]).unwrap();
        let error = batch.failure().unwrap();
        assert_eq!(error.kind(), ErrorKind::EtagMismatch);
        assert_eq!(
            error.chain(),
            "no\npossible etag mismatch. error from state store"
        );
    }

    #[test]
    fn what_failed_for_good_is_told_after_the_rest_succeeded() {
        let batch = Batch::new(vec![operation("a"), operation("b")]);
        let away = Error::unavailable("away");
        let error = settle(&batch, vec![Err(etag_mismatch()), Err(away)]).unwrap_err();
        assert_eq!(error.retry(), Retry::Transient);
        assert_eq!(
            error.chain(),
            "possible etag mismatch. error from state store\naway"
        );
        assert_eq!(batch.left().0, [1]);
        settle(&batch, vec![Ok(())]).unwrap();
        assert!(batch.left().0.is_empty());
        assert_eq!(batch.failure().unwrap().kind(), ErrorKind::EtagMismatch);
    }

    #[test]
    fn a_dropped_attempt_leaves_everything() {
        let batch = Batch::new(vec![operation("a"), operation("b")]);
        drop(batch.left());
        assert_eq!(batch.left().0, [0, 1]);
    }
}
