//! Plain sentences as commands: a small grammar, no model needed (N9). Pure: the time is passed in.

/// What somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// A new task, perhaps with a reminder (milliseconds since 1970).
    Add { title: String, remind_at: Option<i64> },
    /// The tasks that are to be done, or all.
    List { all: bool },
    /// A task is done.
    Finish(Which),
    /// A task is to be removed.
    Remove(Which),
    /// To be reminded of a task.
    Remind { which: Which, at: i64 },
    /// To be told what can be said.
    Help,
}

/// How a task is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Which {
    /// By its place in the list, from 1.
    Number(usize),
    /// By words of its title.
    Words(String),
}

/// What can be said, for those who ask.
pub(super) const HELP: &str = "Say: add buy milk · add call Ann in 20 minutes · list · done 2 · done milk · \
                               remind me of 3 in 1 hour · remind me to water the plants tomorrow · remove 1";

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// Nobody means a reminder further away.
const MAX_AHEAD: i64 = 366 * DAY;

/// Reads a sentence. `None` is one that is not understood.
pub(super) fn read(sentence: &str, now: i64) -> Option<Command> {
    let sentence = sentence.trim().trim_end_matches(['.', '!', '?']);
    let words: Vec<&str> = sentence.split_whitespace().collect();
    let lower: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    // Politeness means nothing here.
    let skip = lower
        .iter()
        .take_while(|word| matches!(**word, "please" | "can" | "could" | "you" | "hey" | "ok" | "so"))
        .count();
    let (words, lower) = (&words[skip..], &lower[skip..]);
    match lower {
        [] => None,
        ["help" | "what", ..]
            if lower.len() == 1
                || lower.contains(&"say")
                || lower.contains(&"do") && lower.contains(&"can") =>
        {
            Some(Command::Help)
        }
        ["list" | "show" | "what" | "what's" | "whats", ..] => Some(Command::List {
            all: lower.contains(&"all") || lower.contains(&"everything"),
        }),
        ["remind", "me", "to", ..] => {
            let (title, at) = timed(&words[3..], &lower[3..], now)?;
            (!title.is_empty()).then_some(Command::Add {
                title,
                remind_at: Some(at?),
            })
        }
        ["remind", "me", "of" | "about", ..] => {
            let (title, at) = timed(&words[3..], &lower[3..], now)?;
            Some(Command::Remind {
                which: which(&title)?,
                at: at?,
            })
        }
        ["add" | "new" | "create" | "note", ..] => {
            let rest = usize::from(lower.get(1) == Some(&"task")) + 1;
            add(&words[rest..], &lower[rest..], now)
        }
        ["i", "need" | "have" | "want" | "must", rest @ ..] => {
            let start = 2 + usize::from(rest.first() == Some(&"to"));
            add(&words[start..], &lower[start..], now)
        }
        [
            "done" | "finish" | "finished" | "complete" | "completed" | "check",
            rest @ ..,
        ] => {
            let start = 1 + rest
                .iter()
                .take_while(|word| matches!(**word, "with" | "off" | "the"))
                .count();
            which(&words[start..].join(" ")).map(Command::Finish)
        }
        ["i", "did" | "finished", ..] => which(&words[2..].join(" ")).map(Command::Finish),
        ["remove" | "delete" | "drop" | "forget", rest @ ..] => {
            let start = 1 + rest
                .iter()
                .take_while(|word| matches!(**word, "about" | "the"))
                .count();
            which(&words[start..].join(" ")).map(Command::Remove)
        }
        // "milk is done"
        [.., "is", "done"] => which(&words[..words.len() - 2].join(" ")).map(Command::Finish),
        _ => None,
    }
}

fn add(words: &[&str], lower: &[&str], now: i64) -> Option<Command> {
    let (title, remind_at) = timed(words, lower, now)?;
    (!title.is_empty()).then_some(Command::Add { title, remind_at })
}

/// A number, or words without quotes and the article.
fn which(text: &str) -> Option<Which> {
    let text = text.trim().trim_matches(['"', '\'', '“', '”']);
    let number = text
        .strip_prefix('#')
        .or_else(|| text.strip_prefix("number "))
        .unwrap_or(text);
    if let Ok(number) = number.parse::<usize>() {
        return (number > 0).then_some(Which::Number(number));
    }
    (!text.is_empty()).then(|| Which::Words(text.to_lowercase()))
}

/// Takes a time off the end of a sentence: `in 20 minutes`, `in an hour`, `tomorrow`, `in 2 days`. What is left is
/// the title. A time too far away is not understood.
fn timed(words: &[&str], lower: &[&str], now: i64) -> Option<(String, Option<i64>)> {
    let title = |count: usize| words[..count].join(" ").trim_matches(['"', '“', '”']).to_owned();
    let ahead = match lower {
        [.., "tomorrow"] => Some((1, DAY)),
        [.., "in", "a" | "an", unit] => length(unit).map(|length| (3, length)),
        [.., "in", count, unit] => count
            .parse::<i64>()
            .ok()
            .filter(|count| *count > 0)
            .and_then(|count| length(unit).and_then(|length| length.checked_mul(count)))
            .map(|ahead| (3, ahead)),
        _ => None,
    };
    match ahead {
        None => Some((title(words.len()), None)),
        Some((_, ahead)) if ahead > MAX_AHEAD => None,
        Some((taken, ahead)) => Some((title(words.len() - taken), Some(now + ahead))),
    }
}

fn length(unit: &str) -> Option<i64> {
    Some(match unit.trim_end_matches('s') {
        "second" | "sec" => 1000,
        "minute" | "min" => MINUTE,
        "hour" | "h" => HOUR,
        "day" => DAY,
        "week" => 7 * DAY,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000;

    fn add(title: &str, remind_at: Option<i64>) -> Option<Command> {
        Some(Command::Add {
            title: title.to_owned(),
            remind_at,
        })
    }

    fn words(text: &str) -> Which {
        Which::Words(text.to_owned())
    }

    #[test]
    fn sentences_are_understood() {
        for (sentence, expected) in [
            ("add buy Milk", add("buy Milk", None)),
            (
                "Please add call Ann in 20 minutes.",
                add("call Ann", Some(NOW + 20 * MINUTE)),
            ),
            ("add task \"sleep\" tomorrow", add("sleep", Some(NOW + DAY))),
            (
                "I need to water the plants in an hour",
                add("water the plants", Some(NOW + HOUR)),
            ),
            (
                "remind me to stand up in 5 secs",
                add("stand up", Some(NOW + 5000)),
            ),
            ("add a party in the garden", add("a party in the garden", None)),
            ("list", Some(Command::List { all: false })),
            ("What is there to do?", Some(Command::List { all: false })),
            ("show me everything", Some(Command::List { all: true })),
            ("done 2", Some(Command::Finish(Which::Number(2)))),
            ("finish the Milk", Some(Command::Finish(words("milk")))),
            ("buy milk is done!", Some(Command::Finish(words("buy milk")))),
            ("I did the dishes", Some(Command::Finish(words("the dishes")))),
            ("remove #3", Some(Command::Remove(Which::Number(3)))),
            ("forget about milk", Some(Command::Remove(words("milk")))),
            (
                "remind me of 3 in 2 days",
                Some(Command::Remind {
                    which: Which::Number(3),
                    at: NOW + 2 * DAY,
                }),
            ),
            ("what can I say?", Some(Command::Help)),
            ("help", Some(Command::Help)),
        ] {
            assert_eq!(read(sentence, NOW), expected, "{sentence}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_not_guessed() {
        for sentence in [
            "",
            "  ",
            "add",
            "done",
            "done 0",
            "remind me to sleep",
            "remind me of 2",
            "hello",
            "add x in 4000 days",
        ] {
            assert_eq!(read(sentence, NOW), None, "{sentence}");
        }
    }
}
