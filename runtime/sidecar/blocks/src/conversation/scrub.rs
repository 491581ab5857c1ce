//! Takes personal data out of texts before they reach a model, and out of its answers.
//!
//! Kinds, placeholders and precedence are those of the library upstream uses (aavaz-ai/pii-scrubber); the patterns
//! are ours and match what theirs are meant to match. Two differences are on purpose: where matches overlap nothing
//! of either is left over, and IPv6 addresses are recognised by parsing.

use std::{borrow::Cow, net::Ipv6Addr, ops::Range};

use regex::Regex;

/// Links and repositories: what touches one stays as it is.
const KEPT: [&str; 2] = [
    r#"https?://[a-z0-9.\-]+\.[^\s()<>]*[^\s!()\[\]{};:'".,<>?]"#,
    r"(?:https?|ssh|git|git@[0-9A-Za-z_.]+):(?://)?[0-9A-Za-z_.@:/~\-]+\.git/?",
];

/// Patterns of a kind in the order of precedence: of two matches of the same stretch the later kind wins.
const KINDS: [(&str, &[&str]); 11] = [
    (
        "STREET_ADDRESS",
        &[
            r"(?i)[0-9]{1,4} [0-9A-Za-z_\s]{1,20}(?:street|st|avenue|ave|road|rd|highway|hwy|square|sq|trail|trl|drive|dr|court|ct|park|parkway|pkwy|circle|cir|boulevard|blvd)[^0-9A-Za-z_]?",
        ],
    ),
    ("CREDIT_CARD", &[r"(?:[0-9]{4}[- ]?){3}[0-9]{4}|[0-9]{15,16}"]),
    (
        "PHONE_NUMBER",
        &[
            // North American, perhaps with an extension.
            r"(?i)(?:(?:\+?1\s*(?:[.-]\s*)?)?(?:\(\s*[2-9][0-9]{2}\s*\)|[2-9][0-9]{2})\s*(?:[.-]\s*)?)?[2-9][0-9]{2}\s*(?:[.-]\s*)?[0-9]{4}(?:\s*(?:#|x\.?|ext\.?|extension)\s*[0-9]+)?",
            // Anywhere: country, area and number, each optional but the last.
            r"(?:\+?[0-9]{1,3}[-.\s*]?)?(?:\(?[0-9]{2,3}\)?[-.\s*]?)?[0-9]{2,3}[-.\s*]?[0-9]{2,6}",
        ],
    ),
    (
        "EMAIL_ADDRESS",
        &[
            r"(?i)[A-Z0-9!#$%&'*+/=?^_{|.}~-]+@(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z0-9](?:[a-z0-9-]*[a-z0-9])?",
        ],
    ),
    (
        "IP",
        &[r"(?:(?:25[0-5]|2[0-4][0-9]|[01]?[0-9]{1,2})\.){3}(?:25[0-5]|2[0-4][0-9]|[01]?[0-9]{1,2})"],
    ),
    ("ZIP_CODE", &[r"(?-u:\b)[0-9]{5}(?:[-\s][0-9]{4})?(?-u:\b)"]),
    ("PO_BOX", &[r"(?i)P\.? ?O\.? Box [0-9]+"]),
    ("US_SSN", &["[0-9]{3}-[0-9]{2}-[0-9]{4}"]),
    ("ISBN", &["(?:[0-9]-?){9}[0-9xX]", "(?:[0-9]-?){12}[0-9xX]"]),
    ("MAC_ADDRESS", &["(?:[0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}"]),
    ("IBAN", &["[A-Z]{2}[0-9]{2}[A-Z0-9]{4}[0-9]{7}[A-Z0-9]{0,16}"]),
];

const IP: usize = 4;

/// Replaces personal data by placeholders such as `<EMAIL_ADDRESS>`.
#[derive(Debug)]
pub struct Scrubber {
    kinds: Vec<Vec<Regex>>,
    kept: Vec<Regex>,
    ipv6: Option<Regex>,
}

impl Default for Scrubber {
    /// Compiles the patterns: make one and keep it. They are constants, and a test sees to it that all compile.
    fn default() -> Self {
        let compile = |patterns: &[&str]| {
            patterns
                .iter()
                .filter_map(|pattern| Regex::new(pattern).ok())
                .collect()
        };
        Self {
            kinds: KINDS.iter().map(|(_, patterns)| compile(patterns)).collect(),
            kept: compile(&KEPT),
            ipv6: Regex::new(r"(?-u:\b)[0-9A-Fa-f]*(?::[0-9A-Fa-f.]*){2,8}").ok(),
        }
    }
}

/// A stretch of text and the kind it is of.
struct Match {
    range: Range<usize>,
    kind: usize,
}

impl Scrubber {
    /// The text without personal data; borrowed when there is none. Takes time about linear in the text's length.
    #[must_use]
    pub fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut matches: Vec<Match> = Vec::new();
        for (kind, patterns) in self.kinds.iter().enumerate() {
            for pattern in patterns {
                matches.extend(pattern.find_iter(text).map(|found| Match {
                    range: found.range(),
                    kind,
                }));
            }
        }
        matches.extend(self.ipv6(text).map(|range| Match { range, kind: IP }));
        if matches.is_empty() {
            return Cow::Borrowed(text);
        }
        // Earlier, then longer, then later kinds come first.
        matches.sort_by(|a, b| {
            a.range
                .start
                .cmp(&b.range.start)
                .then(b.range.end.cmp(&a.range.end))
                .then(b.kind.cmp(&a.kind))
        });
        let kept = self.kept(text);
        let touches_kept = |range: &Range<usize>| {
            kept.get(kept.partition_point(|kept| kept.end <= range.start))
                .is_some_and(|kept| kept.start < range.end)
        };

        let mut scrubbed = String::with_capacity(text.len());
        let mut done = 0;
        for Match { range, kind } in matches {
            // What reaches beyond the match before is a match of its own.
            let start = range.start.max(done);
            if start >= range.end || touches_kept(&range) {
                continue;
            }
            scrubbed.push_str(&text[done..start]);
            scrubbed.push('<');
            scrubbed.push_str(KINDS[kind].0);
            scrubbed.push('>');
            done = range.end;
        }
        if done == 0 {
            return Cow::Borrowed(text);
        }
        scrubbed.push_str(&text[done..]);
        Cow::Owned(scrubbed)
    }

    /// What stays as it is: in order, none touching another, so that one can be searched for by halving.
    fn kept(&self, text: &str) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = self
            .kept
            .iter()
            .flat_map(|pattern| pattern.find_iter(text))
            .map(|found| found.range())
            .collect();
        found.sort_by_key(|range| range.start);
        let mut kept: Vec<Range<usize>> = Vec::with_capacity(found.len());
        for range in found {
            match kept.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => kept.push(range),
            }
        }
        kept
    }

    /// Stretches that parse as IPv6 addresses; a full stop or colon at their end may be the sentence's.
    fn ipv6<'a>(&'a self, text: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
        self.ipv6
            .iter()
            .flat_map(move |pattern| pattern.find_iter(text))
            .filter_map(move |found| {
                let after = text[found.end()..].chars().next();
                if after.is_some_and(char::is_alphanumeric) {
                    return None;
                }
                let candidate = found.as_str();
                let trimmed = candidate.trim_end_matches('.');
                [trimmed, trimmed.trim_end_matches(':')]
                    .into_iter()
                    .find(|candidate| candidate.len() > 2 && candidate.parse::<Ipv6Addr>().is_ok())
                    .map(|address| found.start()..found.start() + address.len())
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_patterns_compile() {
        let scrubber = Scrubber::default();
        assert!(
            scrubber
                .kinds
                .iter()
                .zip(KINDS)
                .all(|(compiled, (_, patterns))| compiled.len() == patterns.len())
        );
        assert_eq!(scrubber.kept.len(), KEPT.len());
        assert!(scrubber.ipv6.is_some());
        assert_eq!(KINDS[IP].0, "IP");
    }

    #[test]
    fn personal_data_gives_way_to_placeholders() {
        let scrubber = Scrubber::default();
        for (text, wanted) in [
            ("well hello there", "well hello there"),
            (
                "my phone number is +2222222222",
                "my phone number is <PHONE_NUMBER>",
            ),
            (
                "Hi this is me with, +919140520809",
                "Hi this is me with, <PHONE_NUMBER>",
            ),
            ("my email is test@test.com", "my email is <EMAIL_ADDRESS>"),
            ("My email is 9144520109@gmail.com", "My email is <EMAIL_ADDRESS>"),
            ("well hello there from 10.8.9.1", "well hello there from <IP>"),
            ("from 2001:db8::1, and on", "from <IP>, and on"),
            ("std::string", "std::string"),
            ("here, 6011553157232994", "here, <CREDIT_CARD>"),
            (
                "My SSN is488-23-3729. Details can be found at https://aavaz.ai/emp/488-23-3729",
                "My SSN is<US_SSN>. Details can be found at https://aavaz.ai/emp/488-23-3729",
            ),
            ("zip 90210", "zip <ZIP_CODE>"),
            ("mac 01:23:45:67:89:ab", "mac <MAC_ADDRESS>"),
            ("at P.O. Box 123", "at <PO_BOX>"),
            ("pay to DE89370400440532013000", "pay to <IBAN>"),
            ("DE89370400440532013000", "<IBAN>"),
            ("I live at 221 Baker street", "I live at <STREET_ADDRESS>"),
            ("ünï 10.8.9.1 çödé", "ünï <IP> çödé"),
        ] {
            assert_eq!(scrubber.scrub(text), wanted);
        }
    }

    #[test]
    fn nothing_of_overlapping_matches_is_left_over() {
        let scrubber = Scrubber::default();
        // A street address, a card and a phone number run into one another.
        let scrubbed = scrubber.scrub("12 Main st 6011553157232994 555-1234-5678");
        assert!(!scrubbed.chars().any(|c| c.is_ascii_digit()), "{scrubbed}");
    }
}
