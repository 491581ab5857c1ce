//! Quoted scalars over several lines, as go-yaml takes them: it drops the blanks that a line begins with, whatever they
//! are. The parser here wants them to be an indentation without tabs (YAML 1.2 §6.1).

/// What the parser says of such scalars.
const COMPLAINTS: [&str; 2] = [
    "tab cannot be used as indentation",
    "invalid indentation in quoted scalar",
];
/// Deeper than any indentation that a file has.
const INDENT: usize = 256;

/// Whether the parser refused a text for the blanks in a quoted scalar.
pub(super) fn complains(message: &str) -> bool {
    COMPLAINTS.iter().any(|complaint| message.contains(complaint))
}

/// The text with all lines that begin inside of quotes indented; it means the same, line for line.
pub(super) fn indented(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut quote = None;
    // The last character on the way that is no blank: it tells whether a quote begins a scalar here.
    let mut before = '\n';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        out.push(c);
        match quote {
            None => {
                let begins = matches!(before, '\n' | ':' | '-' | '?' | '[' | '{' | ',');
                match c {
                    '\'' | '"' if begins => quote = Some(c),
                    '#' if out.ends_with(" #") || before == '\n' => {
                        while let Some(c) = chars.next_if(|c| *c != '\n') {
                            out.push(c);
                        }
                    }
                    _ => {}
                }
                if !matches!(c, ' ' | '\t' | '\r') {
                    before = c;
                }
            }
            Some('"') if c == '\\' => out.extend(chars.next_if(|c| *c != '\n')),
            // Two of them are one that is meant.
            Some('\'') if c == '\'' && chars.peek() == Some(&'\'') => out.extend(chars.next()),
            Some(open) if c == open => {
                quote = None;
                before = c;
            }
            Some(_) if c == '\n' => {
                while chars.next_if(|c| matches!(c, ' ' | '\t')).is_some() {}
                if !matches!(chars.peek(), Some('\n' | '\r') | None) {
                    out.extend(std::iter::repeat_n(' ', INDENT));
                }
            }
            Some(_) => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use crate::yaml::{Mode, json_text, parse, to_json};

    fn json(text: &str) -> String {
        let node = parse(text, Mode::GoYamlV2).unwrap().unwrap();
        json_text(&to_json(&node, Mode::GoYamlV2).unwrap())
    }

    #[test]
    fn tabs_and_short_lines_in_quotes_are_blanks() {
        let text = "a:\n   b: '{\n\t  \"x\": 1, # it''s\n\n \"y\": 2\n\t}'\n   c: \"1 \\\" \n\t2\"\nd: 1\n";
        assert_eq!(
            json(text),
            r#"{"a":{"b":"{ \"x\": 1, # it's\n\"y\": 2 }","c":"1 \" 2"},"d":1}"#
        );
    }

    #[test]
    fn a_broken_text_is_reported_as_it_was_written() {
        let error = parse("a:\n  b: 'x\n\ty'\n c: ]\n", Mode::GoYamlV2).unwrap_err();
        assert!(error.at.line >= 2, "{error}");
    }
}
