//! SQL `LIKE` patterns as Redis' glob patterns (components-contrib `state/redis`, `likeToRedisGlob`).

/// The glob that finds the same keys; `\` escapes in both.
pub(super) fn from_like(pattern: &str) -> String {
    let mut glob = String::with_capacity(pattern.len() + 4);
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '%' => glob.push('*'),
            '_' => glob.push('?'),
            // An escaped letter, or a last backslash, means itself.
            '\\' => literal(&mut glob, letters.next().unwrap_or('\\')),
            letter => literal(&mut glob, letter),
        }
    }
    glob
}

fn literal(glob: &mut String, letter: char) {
    if matches!(letter, '*' | '?' | '[' | ']' | '\\') {
        glob.push('\\');
    }
    glob.push(letter);
}

#[cfg(test)]
mod tests {
    use super::from_like;

    #[test]
    fn wildcards_change_and_letters_stay() {
        for (like, glob) in [
            ("a||%", "a||*"),
            ("k_", "k?"),
            (r"hello\_\%", "hello_%"),
            ("a*b?c[d]", r"a\*b\?c\[d\]"),
            (r"a\\b", r"a\\b"),
            (r"end\", r"end\\"),
        ] {
            assert_eq!(from_like(like), glob, "{like}");
        }
    }
}
