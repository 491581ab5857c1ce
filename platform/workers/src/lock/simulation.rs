//! Five instances, one group, a store and a broker with every fault: answers get lost, publications fail, instances
//! sleep past their leases at any point, their clocks disagree. Each seed is one history.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use serde_json::json;

use super::record::{Letter, LockRecord, Output};
use super::turn::{Effect, Ended, Event, Terms, Turn};
use crate::outlet::Reception;

const INSTANCES: usize = 5;
const EVENTS: usize = 8;
const LEASE: u64 = 300;
/// Redeliveries before an output that is not taken becomes a dead letter.
const REDELIVERIES: u32 = 6;

/// xorshift64*, so that a seed is a history on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % sides
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.roll(100) < percent
    }
}

/// What reaches the store, the broker or an instance, and when.
enum Arrival {
    Effect(Effect),
    Event(Event),
}

struct Holder {
    turn: Turn,
    key: String,
    token: u64,
    /// When the work began, as long as it goes on.
    working: Option<u64>,
    /// What a clock of its own adds.
    skew: i64,
}

#[derive(Default)]
struct History {
    /// Keys and tokens in the order in which the broker got them.
    published: Vec<(String, u64)>,
    /// Tokens as the store gave them.
    tokens: Vec<u64>,
    refused: usize,
    contended: usize,
    robbed: usize,
    /// Keys of events that became dead letters.
    buried: Vec<String>,
    abandoned: Vec<String>,
}

/// What an output is to the broker, by the last digit of its event's name: refused for good, never taken, or never
/// taken as a dead letter either.
fn hopeless(seed: u64, key: &str) -> Option<&'static str> {
    let kinds = [
        ("event-1", "refused"),
        ("event-3", "stuck"),
        ("event-4", "abandoned"),
    ];
    let kind = kinds.iter().find(|(event, _)| *event == key);
    kind.map(|(_, kind)| *kind).filter(|_| seed.is_multiple_of(3))
}

fn run(seed: u64) -> History {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut history = History::default();
    let mut store: Option<(LockRecord, u64)> = None;
    let mut queue = BinaryHeap::new();
    let mut arrivals: BTreeMap<u64, (usize, Arrival)> = BTreeMap::new();
    let mut number = 0;
    let mut post = |queue: &mut BinaryHeap<_>,
                    arrivals: &mut BTreeMap<u64, (usize, Arrival)>,
                    at: u64,
                    who: usize,
                    arrival: Arrival| {
        number += 1;
        arrivals.insert(number, (who, arrival));
        queue.push(Reverse((at, number)));
    };
    let mut waiting: Vec<String> = (0..EVENTS).map(|n| format!("event-{n}")).collect();
    let mut turns = 0;
    let mut begin = |dice: &mut Dice, who: usize, key: String| {
        turns += 1;
        let terms = Terms {
            instance: format!("instance-{who}"),
            turn: format!("turn-{turns}"),
            key: key.clone(),
            lease: Duration::from_millis(LEASE),
            max_retries: 3,
            base_delay: Duration::from_millis(50),
            max_redeliveries: REDELIVERIES,
        };
        Holder {
            turn: Turn::new(terms),
            key,
            token: 0,
            working: None,
            skew: i64::try_from(dice.roll(2 * LEASE)).unwrap() - LEASE as i64,
        }
    };
    let mut holders: Vec<Option<Holder>> = Vec::new();
    for who in 0..INSTANCES {
        let key = waiting.pop();
        holders.push(key.map(|key| begin(&mut dice, who, key)));
        post(&mut queue, &mut arrivals, 0, who, Arrival::Event(Event::Begin));
    }

    while let Some(Reverse((now, id))) = queue.pop() {
        assert!(now < 1_000_000, "seed {seed} does not come to an end");
        let (who, arrival) = arrivals.remove(&id).unwrap();
        // Everything takes a moment, and sometimes much longer than a lease.
        let mut later = now + 1 + dice.roll(10);
        if dice.chance(4) {
            later += dice.roll(4 * LEASE);
        }
        let effect = match arrival {
            Arrival::Event(event) => {
                let Some(holder) = &mut holders[who] else { continue };
                let effect = holder.turn.handle(now as i64 + 10_000 + holder.skew, event);
                match effect {
                    Effect::Work { token, ref robbed } => {
                        holder.token = token;
                        holder.working = Some(now + dice.roll(LEASE));
                        history.robbed += usize::from(robbed.is_some());
                        Effect::Continue
                    }
                    effect => effect,
                }
            }
            Arrival::Effect(effect) => {
                let event = match effect {
                    Effect::Read => match dice.chance(3) {
                        true => Event::ReadFailed,
                        false => Event::Read(
                            store
                                .clone()
                                .map(|(record, revision)| (record, revision.to_string())),
                        ),
                    },
                    Effect::Save(record, etag) => {
                        let fits = etag == store.as_ref().map(|(_, revision)| revision.to_string());
                        let before = dice.chance(3);
                        if fits && !before {
                            let last = store.as_ref().map_or(0, |(record, _)| record.fencing_token);
                            if record.fencing_token != last {
                                history.tokens.push(record.fencing_token);
                            }
                            let revision = store.as_ref().map_or(0, |(_, revision)| *revision) + 1;
                            store = Some((record, revision));
                        }
                        match (before || dice.chance(3), fits) {
                            (true, _) => Event::SaveFailed,
                            (false, true) => Event::Saved,
                            (false, false) => Event::Conflict,
                        }
                    }
                    Effect::Publish(output) => {
                        let why = String::new();
                        Event::Published(match hopeless(seed, &output.key) {
                            // The broker is away, or comes back while it is asked.
                            _ if dice.chance(5) => Reception::Away,
                            _ if dice.chance(2) => Reception::Stuck(why),
                            Some("refused") => Reception::Refused(why),
                            Some(_) => Reception::Stuck(why),
                            None => taken(&mut dice, &mut history, output),
                        })
                    }
                    Effect::Bury(letter, _) => {
                        assert_eq!(letter.letter, None);
                        Event::Published(match hopeless(seed, &letter.key) {
                            _ if dice.chance(5) => Reception::Away,
                            Some("abandoned") => Reception::Stuck(String::new()),
                            _ => {
                                history.buried.push(letter.key.clone());
                                taken(&mut dice, &mut history, letter)
                            }
                        })
                    }
                    Effect::Abandon(output, _) => {
                        history.abandoned.push(output.key);
                        Event::Abandoned
                    }
                    _ => unreachable!("only what goes outside is posted"),
                };
                post(&mut queue, &mut arrivals, later, who, Arrival::Event(event));
                continue;
            }
        };
        match effect {
            Effect::Continue => {
                let holder = holders[who].as_ref().unwrap();
                let ends = holder.working.unwrap();
                let (at, event) = if ends <= now + LEASE / 3 {
                    let output = Output {
                        key: holder.key.clone(),
                        topic: "out".to_owned(),
                        event: json!({"token": holder.token}),
                        subject: crate::outlet::Subject::default(),
                        letter: Some(Letter {
                            topic: "dead".to_owned(),
                            event: None,
                        }),
                    };
                    (ends.max(later), Event::Finished(Some(output)))
                } else {
                    (now + LEASE / 3 + later - now, Event::RenewDue)
                };
                post(&mut queue, &mut arrivals, at, who, Arrival::Event(event));
            }
            Effect::Wait(wait) => {
                let at = later + u64::try_from(wait.as_millis()).unwrap();
                post(&mut queue, &mut arrivals, at, who, Arrival::Event(Event::Waited));
            }
            Effect::End(ended) => {
                let key = holders[who].take().unwrap().key;
                match ended {
                    Ended::Done | Ended::AlreadyDone => {}
                    Ended::Refused { token, current } => {
                        assert!(current > token, "seed {seed}");
                        history.refused += 1;
                        waiting.insert(0, key);
                    }
                    Ended::Contended => {
                        history.contended += 1;
                        waiting.insert(0, key);
                    }
                    Ended::Unavailable => waiting.insert(0, key),
                }
                if let Some(key) = waiting.pop() {
                    holders[who] = Some(begin(&mut dice, who, key));
                    post(
                        &mut queue,
                        &mut arrivals,
                        later,
                        who,
                        Arrival::Event(Event::Begin),
                    );
                }
            }
            effect => post(&mut queue, &mut arrivals, later, who, Arrival::Effect(effect)),
        }
    }
    assert!(waiting.is_empty(), "seed {seed}: {waiting:?}");
    history
}

/// The broker has it; the answer may get lost.
fn taken(dice: &mut Dice, history: &mut History, output: Output) -> Reception {
    let token = output.event["token"].as_u64().unwrap();
    history.published.push((output.key, token));
    match dice.chance(3) {
        true => Reception::Away,
        false => Reception::Taken,
    }
}

#[test]
fn accepted_outputs_never_overlap() {
    let (mut robbed, mut refused, mut contended, mut repeats) = (0, 0, 0, 0);
    for seed in 1..=3000 {
        let history = run(seed);
        // Each acquisition has a token one above the one before.
        assert!(
            history.tokens.iter().copied().eq(1..=history.tokens.len() as u64),
            "seed {seed}: {:?}",
            history.tokens
        );
        // An output is accepted when its key is first seen; a late one has the key of one that was seen already.
        let mut seen = BTreeMap::new();
        let mut overlaps = 0;
        let mut last = 0;
        for (key, token) in &history.published {
            if seen.insert(key, *token).is_some() {
                repeats += 1;
                continue;
            }
            overlaps += usize::from(*token <= last);
            last = *token;
        }
        assert_eq!(overlaps, 0, "seed {seed}: {:?}", history.published);
        let is = |key: &str, kinds: &[&str]| hopeless(seed, key).is_some_and(|kind| kinds.contains(&kind));
        for (number, key) in (0..EVENTS).map(|number| (number, format!("event-{number}"))) {
            let what = format!("seed {seed}: event {number}");
            assert_ne!(
                seen.contains_key(&key),
                is(&key, &["abandoned"]),
                "{what} has its output or letter"
            );
            assert_eq!(
                history.buried.contains(&key),
                is(&key, &["refused", "stuck"]),
                "{what}: dead letter"
            );
            assert_eq!(
                history.abandoned.contains(&key),
                is(&key, &["abandoned"]),
                "{what}: abandoned"
            );
        }
        robbed += history.robbed;
        refused += history.refused;
        contended += history.contended;
    }
    // The histories hold what they are to show.
    for (what, count) in [
        ("robbed", robbed),
        ("refused", refused),
        ("contended", contended),
        ("repeats", repeats),
    ] {
        assert!(count > 100, "only {count} {what}");
    }
}
