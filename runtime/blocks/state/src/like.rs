//! SQL `LIKE` patterns.

/// A compiled pattern: `%` is any text, `_` one character, `\` takes the next character literally. Case counts.
#[derive(Debug, Clone)]
pub struct Like(Vec<Token>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Literal(char),
    One,
    Any,
}

impl Like {
    /// Compiles a pattern. Every text is one; a lone `\` at the end is itself.
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        let mut tokens = Vec::with_capacity(pattern.len());
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => tokens.push(Token::Literal(chars.next().unwrap_or('\\'))),
                '_' => tokens.push(Token::One),
                // Neighbouring `%` are one; keeps the matching short.
                '%' if tokens.last() == Some(&Token::Any) => {}
                '%' => tokens.push(Token::Any),
                c => tokens.push(Token::Literal(c)),
            }
        }
        Self(tokens)
    }

    /// The text every match begins with.
    #[must_use]
    pub fn literal_prefix(&self) -> String {
        self.0
            .iter()
            .map_while(|token| match token {
                Token::Literal(c) => Some(*c),
                Token::One | Token::Any => None,
            })
            .collect()
    }

    /// Whether the text matches. At worst pattern length times text length steps.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let tokens = &self.0;
        let mut at = 0;
        let mut rest = text.chars();
        // Where to go on when the current attempt fails: after the last `%`, one character further in the text.
        let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            match tokens.get(at) {
                Some(Token::Any) => {
                    at += 1;
                    retry = Some((at, rest.clone()));
                    continue;
                }
                Some(token) => {
                    let mut ahead = rest.clone();
                    let fits = match (token, ahead.next()) {
                        (Token::Literal(expected), Some(found)) => *expected == found,
                        (_, found) => found.is_some(),
                    };
                    if fits {
                        at += 1;
                        rest = ahead;
                        continue;
                    }
                }
                None if rest.as_str().is_empty() => return true,
                None => {}
            }
            let Some((after, from)) = &mut retry else {
                return false;
            };
            if from.next().is_none() {
                return false;
            }
            at = *after;
            rest = from.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_sql_does() {
        let matches = |pattern: &str, text: &str| Like::new(pattern).matches(text);
        for (pattern, text, expected) in [
            ("%", "", true),
            ("%", "anything", true),
            ("abc_", "abc1", true),
            ("abc_", "abc", false),
            ("abc_", "abc12", false),
            ("%key1", "prefix||key1", true),
            ("%key1", "key1key2", false),
            ("%||%||%", "a||b||c", true),
            ("%||%||%", "a||b", false),
            ("a%b%c", "aXbXbYc", true),
            (r"hello\%\%", "hello%%", true),
            (r"hello\%\%", "helloxx", false),
            (r"hello%\%", "hello%%", true),
            (r"hello%\%", "hello_", false),
            ("hello_", "helloé", true),
            (r"end\", r"end\", true),
            ("Key", "key", false),
            ("", "", true),
            ("", "x", false),
            ("abc", "ab", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        assert_eq!(Like::new(r"a\_b%c").literal_prefix(), "a_b");
    }

    #[test]
    fn many_wildcards_stay_polynomial() {
        let pattern = "%a".repeat(200) + "b";
        assert!(!Like::new(&pattern).matches(&"a".repeat(5000)));
    }
}
