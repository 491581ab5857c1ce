//! Named cases: each runs alone, is asserted by itself and says how it ended on a line of its own.

use std::{
    fmt::{Debug, Display},
    time::{Duration, Instant},
};

pub const PATIENCE: Duration = Duration::from_secs(20);

/// Why a case did not pass.
#[derive(Debug)]
pub enum End {
    Failed(String),
    Skipped(String),
}

pub type Outcome = Result<(), End>;

impl From<dapr::error::Error> for End {
    fn from(error: dapr::error::Error) -> Self {
        Self::Failed(format!("{error:?}"))
    }
}

impl From<tonic::Status> for End {
    fn from(status: tonic::Status) -> Self {
        Self::Failed(format!("{status:?}"))
    }
}

pub fn ensure(holds: bool, what: impl Display) -> Outcome {
    if holds {
        Ok(())
    } else {
        Err(End::Failed(what.to_string()))
    }
}

pub fn equal<T: PartialEq + Debug>(found: T, wanted: T) -> Outcome {
    ensure(found == wanted, format!("found {found:?}, wanted {wanted:?}"))
}

/// Whether it failed, with one of the parts in its text.
pub fn refused<T, E: Debug>(answer: Result<T, E>, parts: &[&str]) -> Outcome {
    let Err(error) = answer else {
        return Err(End::Failed("it did not fail".to_owned()));
    };
    let text = format!("{error:?}");
    // In the log, to be compared between sidecars.
    eprintln!("refused: {text}");
    ensure(parts.iter().any(|part| text.contains(part)), text)
}

/// Waits until a condition holds; what fails on the way only delays it.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> Result<bool, End>) -> Outcome {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let last = condition().await;
        if matches!(last, Ok(true)) {
            return Ok(());
        }
        ensure(
            Instant::now() < deadline,
            format!("{what}: not within {PATIENCE:?}; last seen: {last:?}"),
        )?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[derive(Default)]
pub struct Tally {
    passed: u32,
    failed: u32,
    skipped: u32,
}

impl Tally {
    pub async fn case(&mut self, name: &str, action: impl Future<Output = Outcome>) {
        let ended = tokio::time::timeout(PATIENCE + Duration::from_secs(5), action).await;
        match ended.unwrap_or_else(|_| Err(End::Failed("it hangs".to_owned()))) {
            Ok(()) => {
                self.passed += 1;
                println!("ok {name}");
            }
            Err(End::Failed(reason)) => {
                self.failed += 1;
                println!("failed {name}: {}", reason.replace('\n', " "));
            }
            Err(End::Skipped(reason)) => {
                self.skipped += 1;
                println!("skipped {name}: {reason}");
            }
        }
    }

    /// Prints the counts; whether no case failed.
    pub fn finish(&self) -> bool {
        println!(
            "{} ok, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        );
        self.failed == 0
    }
}
