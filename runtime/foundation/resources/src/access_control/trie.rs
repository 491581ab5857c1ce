//! Paths with wildcards, by segment, in the order they were written.
//!
//! The search has upstream's peculiarities on purpose: the first sibling that fits is taken without turning back,
//! and a node with a value ends the search even when segments are left. Operators' policies rely on what is
//! allowed and denied today.

/// A path tree.
#[derive(Debug, Clone)]
pub(super) struct Trie<T> {
    children: Vec<Node<T>>,
}

#[derive(Debug, Clone)]
struct Node<T> {
    /// With its leading slash.
    segment: String,
    value: Option<T>,
    children: Vec<Node<T>>,
}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Self { children: Vec::new() }
    }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    // Without the part before the first slash.
    path.split('/').skip(1)
}

impl<T> Trie<T> {
    /// Adds a value; the first one for a path stays.
    pub(super) fn insert(&mut self, path: &str, value: T) {
        let mut value = Some(value);
        let mut children = &mut self.children;
        let mut segments = segments(path).peekable();
        while let Some(segment) = segments.next() {
            let segment = format!("/{segment}");
            let at = children
                .iter()
                .position(|node| node.segment == segment)
                .unwrap_or_else(|| {
                    children.push(Node {
                        segment,
                        value: None,
                        children: Vec::new(),
                    });
                    children.len() - 1
                });
            let node = &mut children[at];
            if segments.peek().is_none() && node.value.is_none() {
                node.value = value.take();
            }
            children = &mut node.children;
        }
    }

    /// The value for a path.
    pub(super) fn find(&self, path: &str) -> Option<&T> {
        let mut children = &self.children;
        let mut segments = segments(path).peekable();
        while let Some(segment) = segments.next() {
            let last = segments.peek().is_none();
            let node = choose(children, &format!("/{segment}"), last)?;
            if let Some(value) = &node.value {
                let single = node.segment.ends_with("/*");
                if last || !single {
                    return Some(value);
                }
            } else if last {
                return choose(&node.children, "/*", true)?.value.as_ref();
            }
            children = &node.children;
        }
        None
    }
}

fn choose<'a, T>(nodes: &'a [Node<T>], segment: &str, last: bool) -> Option<&'a Node<T>> {
    nodes.iter().find(|node| {
        let pattern = node.segment.as_str();
        if pattern == segment {
            return true;
        }
        match pattern {
            "/*" => last,
            "/**" => true,
            pattern => glob(pattern.as_bytes(), segment.as_bytes()),
        }
    })
}

/// `*` matches any run of bytes. Linear in the text for a fixed pattern, as the text comes from callers.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if p < pattern.len() && pattern[p] == b'*' {
            star = Some((p, t));
            p += 1;
        } else if p < pattern.len() && pattern[p] == text[t] {
            p += 1;
            t += 1;
        } else if let Some((at, from)) = star {
            p = at + 1;
            t = from + 1;
            star = Some((at, t));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn stars_match_runs() {
        for (text, pattern, expected) in [
            ("/ABC", "/A*", true),
            ("/ABC.a", "/*a", true),
            ("/ABC.a", "/AB*.a", true),
            ("/abcd", "/a*d", true),
            ("/abcd", "/a*c", false),
            ("/aXbXc", "/a*b*c", true),
            ("/", "/*", true),
        ] {
            assert_eq!(
                glob(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{text} {pattern}"
            );
        }
    }
}
