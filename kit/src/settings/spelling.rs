//! Names as their writers spell them: case and underscores do not count, so `HttpPort` is `HTTP_PORT` (Z7).

use std::collections::BTreeMap;

/// What two spellings of one name have in common.
pub(super) fn plain(name: &str) -> String {
    name.chars()
        .filter(|letter| *letter != '_')
        .flat_map(char::to_lowercase)
        .collect()
}

/// Names with values from one place, found by any spelling.
pub(super) struct Layer<'a> {
    place: &'static str,
    /// By plain name: each spelling that stands there, with its value.
    spellings: BTreeMap<String, Vec<(&'a str, &'a str)>>,
}

impl<'a> Layer<'a> {
    /// `place` names it in messages: `the environment`.
    pub(super) fn new(
        place: &'static str,
        values: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Self {
        let mut spellings: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for (name, value) in values {
            spellings
                .entry(plain(name))
                .or_default()
                .push((name.as_str(), value.as_str()));
        }
        Self { place, spellings }
    }

    /// The first of these names that has a value, as it stands there.
    ///
    /// # Errors
    /// If it stands there in two spellings: neither is the right one.
    pub(super) fn find<'n>(
        &self,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Result<Option<(&'a str, &'a str)>, String> {
        for name in names {
            match self.spellings.get(&plain(name)).map(Vec::as_slice) {
                None | Some([]) => {}
                Some([one]) => return Ok(Some(*one)),
                Some([(first, _), (second, _), ..]) => {
                    return Err(format!(
                        "{} has one setting in two spellings, {first:?} and {second:?}: keep one",
                        self.place
                    ));
                }
            }
        }
        Ok(None)
    }

    /// The names that none of these is, as they stand there.
    pub(super) fn unknown(&self, names: &[&str]) -> Vec<&'a str> {
        let known: Vec<String> = names.iter().map(|name| plain(name)).collect();
        self.spellings
            .iter()
            .filter(|(name, _)| !known.contains(name))
            .flat_map(|(_, spelled)| spelled.iter().map(|(name, _)| *name))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_underscores_do_not_count() {
        for name in ["HttpPort", "HTTP_PORT", "httpport", "Http_Port_"] {
            assert_eq!(plain(name), "httpport");
        }
        assert_ne!(plain("Http-Port"), "httpport");
    }
}
