//! One connection's life as a pure state machine: what happened goes in, what is to be done comes out (I3, I7).
//!
//! No socket, no clock, no randomness in here.
//!
//! ```text
//!        Opened              Closed, Failed            Due
//! Opening ────▶ Open ────────────────────▶ Waiting ─────────▶ Opening
//!    │           │  (no reconnecting)         ▲                 │ Refused
//!    │           ▼                            └─────────────────┤
//!    └────────▶ Over ◀──────────────────────────────────────────┘ (attempts used up, or never open)
//!                                  Leave, Retire from anywhere ──▶ Gone
//! ```
//!
//! Beside this it keeps what ails the connection ([`Trouble`]): an open one that has any is degraded.

use std::collections::BTreeSet;
use std::time::Duration;

/// So many drops, none of which came after a steady time, make a connection unsteady.
const UNSTEADY: u32 = 3;

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

/// What keeps an open connection from being as good as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trouble {
    /// It dropped three times, never having been open for a steady time before.
    Unsteady,
    /// The server leaves a ping unanswered and says nothing else.
    Silent,
    /// What it receives cannot be published.
    Unpublished,
}

impl Trouble {
    /// As it is told.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unsteady => "unsteady",
            Self::Silent => "silent",
            Self::Unpublished => "unpublished",
        }
    }

    /// For people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Unsteady => "it keeps dropping",
            Self::Silent => "the server does not answer a ping",
            Self::Unpublished => "its messages cannot be published",
        }
    }
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
    /// It has been open for long enough to be called steady.
    Steady,
    /// Something ails it.
    Troubled(Trouble),
    /// It is well again in this respect.
    Relieved(Trouble),
    /// It is not wanted any longer: by whom, or why.
    Leave(&'static str),
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
    /// It is written down.
    Registered,
    /// An attempt begins: which one, from 1.
    Connecting(u32),
    /// It is open.
    Connected,
    /// It is open, but not well: each trouble is told when it begins, and anew after each opening.
    Degraded(Trouble),
    /// The last of its troubles is over.
    Recovered,
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
    /// Whether it has never been open: whoever asked for it is told of a failure, and asks again.
    is_new: bool,
    troubles: BTreeSet<Trouble>,
    /// Since it was last steady.
    drops: u32,
}

impl Machine {
    fn in_state(state: State, reconnect: Option<Reconnect>) -> Self {
        Self {
            state,
            reconnect,
            is_new: false,
            troubles: BTreeSet::new(),
            drops: 0,
        }
    }

    /// Of a connection that was asked for and written down just now. Its first attempt is the only one until it has
    /// been open. `reconnect` is `None` where every drop is the end.
    #[must_use]
    pub fn registered(reconnect: Option<Reconnect>) -> (Self, Vec<Effect>) {
        let mut machine = Self::in_state(State::Opening(1), reconnect);
        machine.is_new = true;
        let told = [Told::Registered, Told::Connecting(1)];
        (
            machine,
            told.map(Effect::Tell).into_iter().chain([Effect::Open]).collect(),
        )
    }

    /// Of a connection that was open in an earlier life of this instance, or another's. Even one that is not to
    /// reconnect after a drop gets one attempt: it was not the server that ended it.
    #[must_use]
    pub fn restored(reconnect: Option<Reconnect>) -> (Self, Vec<Effect>) {
        let machine = Self::in_state(State::Opening(1), reconnect);
        let told = [Told::Reconnecting(1), Told::Connecting(1)];
        (
            machine,
            told.map(Effect::Tell).into_iter().chain([Effect::Open]).collect(),
        )
    }

    /// Of a connection that was closed for good.
    #[must_use]
    pub fn over() -> (Self, Vec<Effect>) {
        (Self::in_state(State::Over, None), Vec::new())
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
            (State::Over, Input::Leave(_) | Input::Retire) => {
                self.state = State::Gone;
                Vec::new()
            }
            (state, Input::Leave(why)) => {
                self.state = State::Gone;
                let mut effects = close_if_open(state);
                effects.push(Effect::Tell(Told::Closed(why.to_owned())));
                effects
            }
            (state, Input::Retire) => {
                self.state = State::Gone;
                close_if_open(state)
            }
            (State::Over, _) => Vec::new(),
            (state, Input::Troubled(trouble)) => {
                let begins = self.troubles.insert(trouble);
                tell_if(begins && state == State::Open, Told::Degraded(trouble))
            }
            (state, Input::Relieved(trouble)) => {
                let ends = self.troubles.remove(&trouble) && self.troubles.is_empty();
                tell_if(ends && state == State::Open, Told::Recovered)
            }
            (State::Opening(_), Input::Opened) => {
                self.state = State::Open;
                self.is_new = false;
                let troubles = self.troubles.iter().copied().map(Told::Degraded);
                [Told::Connected]
                    .into_iter()
                    .chain(troubles)
                    .map(Effect::Tell)
                    .collect()
            }
            (State::Opening(_), Input::Refused(failure)) if self.is_new => {
                self.state = State::Over;
                let reason = failure.message.clone();
                vec![
                    Effect::Tell(Told::Failed(failure)),
                    Effect::Tell(Told::Closed(reason)),
                ]
            }
            (State::Opening(attempt), Input::Refused(failure)) => {
                self.again(attempt + 1, random, failure.message)
            }
            (State::Waiting(attempt), Input::Due) => {
                self.state = State::Opening(attempt);
                vec![Effect::Tell(Told::Connecting(attempt)), Effect::Open]
            }
            (State::Open, Input::Steady) => {
                self.drops = 0;
                self.step(Input::Relieved(Trouble::Unsteady), random)
            }
            (State::Open, Input::Closed(code, reason)) => {
                self.dropped();
                self.again(
                    1,
                    random,
                    format!("by the server: {code} {reason}").trim_end().to_owned(),
                )
            }
            (State::Open, Input::Failed(failure)) => {
                self.dropped();
                let reason = failure.message.clone();
                let mut effects = vec![Effect::Tell(Told::Failed(failure))];
                effects.extend(self.again(1, random, reason));
                effects
            }
            _ => Vec::new(),
        }
    }

    fn dropped(&mut self) {
        // The next server, or the same one after its restart, may well talk.
        self.troubles.remove(&Trouble::Silent);
        self.drops = self.drops.saturating_add(1);
        if self.drops >= UNSTEADY {
            self.troubles.insert(Trouble::Unsteady);
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

fn tell_if(holds: bool, told: Told) -> Vec<Effect> {
    if holds {
        vec![Effect::Tell(told)]
    } else {
        Vec::new()
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

    fn opened(reconnect: Option<Reconnect>) -> Machine {
        let (mut machine, _) = Machine::registered(reconnect);
        assert_eq!(machine.step(Input::Opened, 0.0), [Effect::Tell(Told::Connected)]);
        machine
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
        let (waited, told) = run(
            opened(Some(Reconnect::default())),
            Input::Closed(1001, "bye".to_owned()),
            None,
        );
        assert_eq!(waited, Duration::from_secs(1 + 2 + 4 + 8 + 16));
        let attempt = |attempt| [Told::Reconnecting(attempt), Told::Connecting(attempt)];
        let mut expected: Vec<_> = (1..=5).flat_map(attempt).collect();
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
        let (waited, told) = run(
            opened(Some(Reconnect::default())),
            Input::Failed(failure()),
            Some(3),
        );
        assert_eq!(waited, Duration::from_secs(1 + 2 + 4));
        assert_eq!(
            told,
            [
                Told::Failed(failure()),
                Told::Reconnecting(1),
                Told::Connecting(1),
                Told::Reconnecting(2),
                Told::Connecting(2),
                Told::Reconnecting(3),
                Told::Connecting(3),
                Told::Connected
            ]
        );
    }

    #[test]
    fn without_reconnecting_a_drop_is_the_end() {
        let drop = |input| run(opened(None), input, None).1;
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
        let mut machine = opened(Some(Reconnect::default()));
        let effects = machine.step(Input::Leave("by the user"), 0.0);
        assert_eq!(
            effects,
            [
                Effect::Close,
                Effect::Tell(Told::Closed("by the user".to_owned()))
            ]
        );
        assert!(machine.step(Input::Closed(1000, String::new()), 0.0).is_empty());
        let (mut over, _) = Machine::over();
        assert!(
            over.step(Input::Leave("by the user"), 0.0).is_empty(),
            "it was told before"
        );
    }

    #[test]
    fn one_that_is_given_away_is_closed_in_silence() {
        let mut machine = opened(None);
        assert_eq!(machine.step(Input::Retire, 0.0), [Effect::Close]);
        assert_eq!(machine.state(), State::Gone);
    }

    #[test]
    fn a_restored_one_is_tried_at_once_whatever_its_policy() {
        let (machine, effects) = Machine::restored(None);
        assert_eq!(
            effects,
            [
                Effect::Tell(Told::Reconnecting(1)),
                Effect::Tell(Told::Connecting(1)),
                Effect::Open
            ]
        );
        let (waited, told) = run(machine, Input::Refused(failure()), None);
        assert_eq!(
            (waited, told),
            (Duration::ZERO, vec![Told::Closed("gone".to_owned())])
        );
    }

    #[test]
    fn a_new_one_is_tried_once_whatever_its_policy() {
        let (mut machine, effects) = Machine::registered(Some(Reconnect::default()));
        assert_eq!(
            effects,
            [
                Effect::Tell(Told::Registered),
                Effect::Tell(Told::Connecting(1)),
                Effect::Open
            ]
        );
        assert_eq!(
            machine.step(Input::Refused(failure()), 0.0),
            [
                Effect::Tell(Told::Failed(failure())),
                Effect::Tell(Told::Closed("gone".to_owned()))
            ]
        );
        assert_eq!(machine.state(), State::Over);
    }

    #[test]
    fn troubles_degrade_and_their_end_is_told_once() {
        let mut machine = opened(None);
        let mut told = |input| match machine.step(input, 0.0).as_slice() {
            [] => None,
            [Effect::Tell(told)] => Some(told.clone()),
            effects => panic!("{effects:?}"),
        };
        assert_eq!(told(Input::Relieved(Trouble::Silent)), None, "there was none");
        assert_eq!(
            told(Input::Troubled(Trouble::Silent)),
            Some(Told::Degraded(Trouble::Silent))
        );
        assert_eq!(told(Input::Troubled(Trouble::Silent)), None, "it is known");
        assert_eq!(
            told(Input::Troubled(Trouble::Unpublished)),
            Some(Told::Degraded(Trouble::Unpublished))
        );
        assert_eq!(told(Input::Relieved(Trouble::Silent)), None, "there is another");
        assert_eq!(told(Input::Relieved(Trouble::Unpublished)), Some(Told::Recovered));
    }

    #[test]
    fn one_that_keeps_dropping_is_unsteady_until_it_holds() {
        let mut machine = opened(Some(Reconnect::default()));
        let mut drop_and_open = || {
            let mut story = machine.step(Input::Closed(1001, String::new()), 0.0);
            story.extend(machine.step(Input::Due, 0.0));
            story.extend(machine.step(Input::Opened, 0.0));
            let degraded = Effect::Tell(Told::Degraded(Trouble::Unsteady));
            (story.contains(&degraded), story.last() == Some(&degraded))
        };
        assert_eq!(drop_and_open(), (false, false));
        assert_eq!(drop_and_open(), (false, false));
        assert_eq!(drop_and_open(), (true, true), "told after it is open");
        assert_eq!(drop_and_open(), (true, true), "and after every opening");
        assert_eq!(machine.step(Input::Steady, 0.0), [Effect::Tell(Told::Recovered)]);
        assert!(machine.step(Input::Steady, 0.0).is_empty());
        machine.step(Input::Closed(1001, String::new()), 0.0);
        machine.step(Input::Due, 0.0);
        assert_eq!(
            machine.step(Input::Opened, 0.0),
            [Effect::Tell(Told::Connected)],
            "the count began anew"
        );
    }

    #[test]
    fn what_cannot_be_published_while_it_is_down_is_told_when_it_is_open() {
        let mut machine = opened(Some(Reconnect::default()));
        machine.step(Input::Troubled(Trouble::Silent), 0.0);
        machine.step(Input::Failed(failure()), 0.0);
        assert!(
            machine
                .step(Input::Troubled(Trouble::Unpublished), 0.0)
                .is_empty()
        );
        machine.step(Input::Due, 0.0);
        assert_eq!(
            machine.step(Input::Opened, 0.0),
            [
                Effect::Tell(Told::Connected),
                Effect::Tell(Told::Degraded(Trouble::Unpublished))
            ],
            "a new socket is not silent yet"
        );
    }

    fn trouble() -> impl Strategy<Value = Trouble> {
        prop_oneof![
            Just(Trouble::Unsteady),
            Just(Trouble::Silent),
            Just(Trouble::Unpublished)
        ]
    }

    fn inputs() -> impl Strategy<Value = Input> {
        prop_oneof![
            4 => Just(Input::Opened),
            4 => Just(Input::Refused(failure())),
            3 => Just(Input::Closed(1000, String::new())),
            3 => Just(Input::Failed(failure())),
            6 => Just(Input::Due),
            2 => Just(Input::Steady),
            3 => trouble().prop_map(Input::Troubled),
            3 => trouble().prop_map(Input::Relieved),
            1 => Just(Input::Leave("by the user")),
            1 => Just(Input::Retire),
        ]
    }

    proptest! {
        #[test]
        fn whatever_happens_the_story_makes_sense(
            inputs in proptest::collection::vec((inputs(), 0.0..1.0), 0..60),
            attempts in 0_u32..7,
            jitter in 0.0..1.0,
            is_new in any::<bool>(),
        ) {
            let policy = Reconnect { attempts, jitter, ..Reconnect::default() };
            let begin = if is_new { Machine::registered } else { Machine::restored };
            let (mut machine, first) = begin(Some(policy));
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
            let (mut was_open, mut troubles) = (!is_new, BTreeSet::new());
            for (index, news) in told.iter().enumerate() {
                let next = told.get(index + 1);
                let is_open = |news: Option<&&Told>| {
                    matches!(
                        news,
                        None | Some(
                            Told::Degraded(_)
                                | Told::Recovered
                                | Told::Failed(_)
                                | Told::Reconnecting(1)
                                | Told::Closed(_)
                        )
                    )
                };
                match news {
                    Told::Registered => {
                        prop_assert!(index == 0 && is_new);
                        prop_assert!(matches!(next, Some(Told::Connecting(1))));
                    }
                    Told::Connecting(n) => {
                        let follows = match next {
                            None | Some(Told::Connected | Told::Closed(_)) => true,
                            Some(Told::Reconnecting(m)) => was_open && *m == n + 1,
                            Some(Told::Failed(_)) => !was_open,
                            Some(_) => false,
                        };
                        prop_assert!(follows);
                    }
                    Told::Connected => {
                        was_open = true;
                        troubles.clear();
                        prop_assert!(is_open(next) && !matches!(next, Some(Told::Recovered)));
                    }
                    Told::Degraded(trouble) => {
                        troubles.insert(*trouble);
                        prop_assert!(is_open(next));
                    }
                    Told::Recovered => {
                        prop_assert!(!troubles.is_empty(), "of what?");
                        troubles.clear();
                        prop_assert!(is_open(next) && !matches!(next, Some(Told::Recovered)));
                    }
                    Told::Failed(_) => {
                        let follows = match next {
                            Some(Told::Reconnecting(1)) => was_open,
                            Some(Told::Closed(_)) => true,
                            _ => false,
                        };
                        prop_assert!(follows);
                    }
                    Told::Reconnecting(n) => {
                        prop_assert!(*n <= attempts.max(1));
                        let follows = match next {
                            None | Some(Told::Closed(_)) => true,
                            Some(Told::Connecting(m)) => m == n,
                            Some(_) => false,
                        };
                        prop_assert!(follows);
                    }
                    Told::Closed(_) => prop_assert!(next.is_none()),
                }
            }
        }
    }
}
