//! One connection's life as a pure state machine: what happened goes in, what is to be done comes out (I3, I7).
//!
//! No socket, no clock, no randomness in here.
//!
//! ```text
//!        Opened              Closed, Failed            Due
//! Opening ────▶ Open ────────────────────▶ Waiting ─────────▶ Opening
//!    │           │  (no reconnecting)         ▲                 │ Refused
//!    │           ▼                            └─────────────────┤
//!    └────────▶ Over ◀──────────────────────────────────────────┘ (attempts used up)
//!                                  Leave, Retire from anywhere ──▶ Gone
//! ```

use std::time::Duration;

/// How a dropped connection is made again (I3.1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reconnect {
    /// Attempts in a row; 0 makes every drop the end.
    pub attempts: u32,
    /// The wait before the first attempt; doubles with each further one.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
    /// The part of each wait, from 0 to 1, that is left to chance, so that many clients of a server that restarts do
    /// not come back at the same moment.
    pub jitter: f64,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            attempts: 5,
            first: Duration::from_secs(1),
            longest: Duration::from_secs(30),
            jitter: 0.0,
        }
    }
}

impl Reconnect {
    /// The wait before an attempt, which counts from 1. `random` is from 0 to 1.
    #[must_use]
    pub fn delay(&self, attempt: u32, random: f64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        let full = self
            .first
            .checked_mul(1 << doublings)
            .unwrap_or(self.longest)
            .min(self.longest);
        full.mul_f64(1.0 - self.jitter.clamp(0.0, 1.0) * random.clamp(0.0, 1.0))
    }
}

/// What went wrong with a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its kind, for programs: `dns`, `connect`, `tls`, `handshake`, `timeout`, `reset`, `protocol`, `too_large`.
    pub kind: &'static str,
    /// Its words, for people.
    pub message: String,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The handshake is done.
    Opened,
    /// There is no connection.
    Refused(Failure),
    /// The server said goodbye: its code and reason.
    Closed(u16, String),
    /// The connection broke.
    Failed(Failure),
    /// A wait is over.
    Due,
    /// The user wants to have it no longer.
    Leave,
    /// This instance does not hold it any longer; somebody else may.
    Retire,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Make a connection.
    Open,
    /// Wait, then say [`Input::Due`].
    Wait(Duration),
    /// Close the connection.
    Close,
    /// Tell those who watch.
    Tell(Told),
}

/// What those who watch are told (I7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// It is open.
    Connected,
    /// It will be made again: which attempt this is.
    Reconnecting(u32),
    /// It is closed, and stays so: why.
    Closed(String),
    /// It broke.
    Failed(Failure),
}

/// How a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A connection is being made: which attempt.
    Opening(u32),
    /// It is open.
    Open,
    /// Before an attempt.
    Waiting(u32),
    /// Closed for good; it can only be removed.
    Over,
    /// Removed, or somebody else's.
    Gone,
}

/// The machine.
#[derive(Debug, Clone)]
pub struct Machine {
    state: State,
    reconnect: Option<Reconnect>,
}

impl Machine {
    /// Of a connection whose handshake is done. `reconnect` is `None` where every drop is the end.
    #[must_use]
    pub fn opened(reconnect: Option<Reconnect>) -> (Self, Vec<Effect>) {
        let machine = Self {
            state: State::Open,
            reconnect,
        };
        (machine, vec![Effect::Tell(Told::Connected)])
    }

    /// Of a connection that was open in an earlier life of this instance, or another's. Even one that is not to
    /// reconnect after a drop gets one attempt: it was not the server that ended it.
    #[must_use]
    pub fn restored(reconnect: Option<Reconnect>) -> (Self, Vec<Effect>) {
        let machine = Self {
            state: State::Opening(1),
            reconnect,
        };
        (machine, vec![Effect::Tell(Told::Reconnecting(1)), Effect::Open])
    }

    /// Of a connection that was closed for good.
    #[must_use]
    pub fn over() -> (Self, Vec<Effect>) {
        let machine = Self {
            state: State::Over,
            reconnect: None,
        };
        (machine, Vec::new())
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Takes in what happened; `random` is from 0 to 1. What does not fit the state is late news and has no effect.
    pub fn step(&mut self, input: Input, random: f64) -> Vec<Effect> {
        match (self.state, input) {
            (State::Gone, _) => Vec::new(),
            (State::Over, Input::Leave | Input::Retire) => {
                self.state = State::Gone;
                Vec::new()
            }
            (state, Input::Leave) => {
                self.state = State::Gone;
                let mut effects = close_if_open(state);
                effects.push(Effect::Tell(Told::Closed("by the user".to_owned())));
                effects
            }
            (state, Input::Retire) => {
                self.state = State::Gone;
                close_if_open(state)
            }
            (State::Opening(_), Input::Opened) => {
                self.state = State::Open;
                vec![Effect::Tell(Told::Connected)]
            }
            (State::Opening(attempt), Input::Refused(failure)) => {
                self.again(attempt + 1, random, failure.message)
            }
            (State::Waiting(attempt), Input::Due) => {
                self.state = State::Opening(attempt);
                vec![Effect::Open]
            }
            (State::Open, Input::Closed(code, reason)) => self.again(
                1,
                random,
                format!("by the server: {code} {reason}").trim_end().to_owned(),
            ),
            (State::Open, Input::Failed(failure)) => {
                let reason = failure.message.clone();
                let mut effects = vec![Effect::Tell(Told::Failed(failure))];
                effects.extend(self.again(1, random, reason));
                effects
            }
            _ => Vec::new(),
        }
    }

    fn again(&mut self, attempt: u32, random: f64, reason: String) -> Vec<Effect> {
        match self.reconnect {
            Some(reconnect) if attempt <= reconnect.attempts => {
                self.state = State::Waiting(attempt);
                vec![
                    Effect::Tell(Told::Reconnecting(attempt)),
                    Effect::Wait(reconnect.delay(attempt, random)),
                ]
            }
            _ => {
                self.state = State::Over;
                vec![Effect::Tell(Told::Closed(reason))]
            }
        }
    }
}

fn close_if_open(state: State) -> Vec<Effect> {
    if state == State::Open {
        vec![Effect::Close]
    } else {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn failure() -> Failure {
        Failure {
            kind: "reset",
            message: "gone".to_owned(),
        }
    }

    /// Runs a machine whose every attempt fails, or succeeds at one of them; tells how long it waited.
    fn run(mut machine: Machine, input: Input, succeeds_at: Option<u32>) -> (Duration, Vec<Told>) {
        let (mut clock, mut told) = (Duration::ZERO, Vec::new());
        let mut inputs = vec![input];
        let mut attempts = 0;
        while let Some(input) = inputs.pop() {
            for effect in machine.step(input, 0.5) {
                match effect {
                    Effect::Open => {
                        attempts += 1;
                        inputs.push(if Some(attempts) == succeeds_at {
                            Input::Opened
                        } else {
                            Input::Refused(failure())
                        });
                    }
                    Effect::Wait(wait) => {
                        clock += wait;
                        inputs.push(Input::Due);
                    }
                    Effect::Tell(news) => told.push(news),
                    Effect::Close => {}
                }
            }
        }
        (clock, told)
    }

    #[test]
    fn five_attempts_double_their_wait_from_a_second() {
        let (machine, _) = Machine::opened(Some(Reconnect::default()));
        let (waited, told) = run(machine, Input::Closed(1001, "bye".to_owned()), None);
        assert_eq!(waited, Duration::from_secs(1 + 2 + 4 + 8 + 16));
        let mut expected: Vec<_> = (1..=5).map(Told::Reconnecting).collect();
        expected.push(Told::Closed("gone".to_owned()));
        assert_eq!(told, expected);
    }

    #[test]
    fn waits_are_capped_at_thirty_seconds() {
        let policy = Reconnect::default();
        let waits: Vec<_> = (1..=8)
            .map(|attempt| policy.delay(attempt, 0.0).as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(policy.delay(u32::MAX, 0.0).as_secs(), 30);
        let jittery = Reconnect {
            jitter: 0.5,
            ..policy
        };
        assert_eq!(jittery.delay(1, 1.0), Duration::from_millis(500));
        assert_eq!(jittery.delay(1, 0.0), Duration::from_secs(1));
    }

    #[test]
    fn a_success_begins_the_count_anew() {
        let (machine, told) = Machine::opened(Some(Reconnect::default()));
        assert_eq!(told, [Effect::Tell(Told::Connected)]);
        let (waited, told) = run(machine, Input::Failed(failure()), Some(3));
        assert_eq!(waited, Duration::from_secs(1 + 2 + 4));
        assert_eq!(
            told,
            [
                Told::Failed(failure()),
                Told::Reconnecting(1),
                Told::Reconnecting(2),
                Told::Reconnecting(3),
                Told::Connected
            ]
        );
    }

    #[test]
    fn without_reconnecting_a_drop_is_the_end() {
        let drop = |input| run(Machine::opened(None).0, input, None).1;
        assert_eq!(
            drop(Input::Closed(1000, String::new())),
            [Told::Closed("by the server: 1000".to_owned())]
        );
        assert_eq!(
            drop(Input::Failed(failure())),
            [Told::Failed(failure()), Told::Closed("gone".to_owned())]
        );
    }

    #[test]
    fn a_user_who_leaves_is_told_once() {
        let (mut machine, _) = Machine::opened(Some(Reconnect::default()));
        let effects = machine.step(Input::Leave, 0.0);
        assert_eq!(
            effects,
            [
                Effect::Close,
                Effect::Tell(Told::Closed("by the user".to_owned()))
            ]
        );
        assert!(machine.step(Input::Closed(1000, String::new()), 0.0).is_empty());
        let (mut over, _) = Machine::over();
        assert!(over.step(Input::Leave, 0.0).is_empty(), "it was told before");
    }

    #[test]
    fn one_that_is_given_away_is_closed_in_silence() {
        let (mut machine, _) = Machine::opened(None);
        assert_eq!(machine.step(Input::Retire, 0.0), [Effect::Close]);
        assert_eq!(machine.state(), State::Gone);
    }

    #[test]
    fn a_restored_one_is_tried_at_once_whatever_its_policy() {
        let (machine, effects) = Machine::restored(None);
        assert_eq!(effects, [Effect::Tell(Told::Reconnecting(1)), Effect::Open]);
        let (waited, told) = run(machine, Input::Refused(failure()), None);
        assert_eq!(
            (waited, told),
            (Duration::ZERO, vec![Told::Closed("gone".to_owned())])
        );
    }

    fn inputs() -> impl Strategy<Value = Input> {
        prop_oneof![
            4 => Just(Input::Opened),
            4 => Just(Input::Refused(failure())),
            3 => Just(Input::Closed(1000, String::new())),
            3 => Just(Input::Failed(failure())),
            6 => Just(Input::Due),
            1 => Just(Input::Leave),
            1 => Just(Input::Retire),
        ]
    }

    proptest! {
        #[test]
        fn whatever_happens_the_story_makes_sense(
            inputs in proptest::collection::vec((inputs(), 0.0..1.0), 0..60),
            attempts in 0_u32..7,
            jitter in 0.0..1.0,
        ) {
            let policy = Reconnect { attempts, jitter, ..Reconnect::default() };
            let (mut machine, first) = Machine::opened(Some(policy));
            let mut story = first;
            for (input, random) in inputs {
                let before = machine.state();
                let effects = machine.step(input, random);
                prop_assert!(before != State::Gone || effects.is_empty());
                // At most one thing is begun at a time, and always the last of what is to be done.
                let begun = |effect: &Effect| matches!(effect, Effect::Open | Effect::Wait(_));
                prop_assert!(effects.iter().rev().skip(1).all(|effect| !begun(effect)));
                for effect in &effects {
                    if let Effect::Wait(wait) = effect {
                        prop_assert!(*wait <= policy.longest);
                    }
                }
                story.extend(effects);
            }
            let told: Vec<_> = story.iter().filter_map(|effect| match effect {
                Effect::Tell(told) => Some(told),
                _ => None,
            }).collect();
            for (index, news) in told.iter().enumerate() {
                let next = told.get(index + 1);
                match news {
                    Told::Failed(_) => prop_assert!(matches!(next, Some(Told::Reconnecting(1) | Told::Closed(_)))),
                    Told::Reconnecting(n) => {
                        prop_assert!(*n <= attempts);
                        let follows = match next {
                            None | Some(Told::Connected | Told::Closed(_)) => true,
                            Some(Told::Reconnecting(m)) => *m == n + 1,
                            Some(Told::Failed(_)) => false,
                        };
                        prop_assert!(follows);
                    }
                    Told::Closed(_) => prop_assert!(next.is_none()),
                    Told::Connected => prop_assert!(!matches!(next, Some(Told::Connected))),
                }
            }
        }
    }
}
