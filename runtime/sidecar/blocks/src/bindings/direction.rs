//! The `direction` setting of a binding component (upstream `pkg/runtime/processor/binding/binding.go`).

use outrigger_component::Properties;

/// Which sides of a binding are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Direction {
    /// It may read.
    pub input: bool,
    /// It may be called.
    pub output: bool,
    /// The file says "input", so the app need not be asked.
    pub explicit_input: bool,
}

impl Direction {
    /// Reads a comma-separated list in any case; without one both sides are wanted.
    #[must_use]
    pub fn from_properties(properties: &Properties) -> Self {
        let Some(list) = properties.get("direction") else {
            return Self {
                input: true,
                output: true,
                explicit_input: false,
            };
        };
        let lists = |side: &str| list.split(',').any(|item| item.trim().eq_ignore_ascii_case(side));
        let input = lists("input");
        Self {
            input,
            output: lists("output"),
            explicit_input: input,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_without_case_or_blanks() {
        let read = |value: &str| Direction::from_properties(&Properties::from_pairs([("Direction", value)]));
        assert_eq!(
            read("Input"),
            Direction {
                input: true,
                output: false,
                explicit_input: true
            }
        );
        assert_eq!(
            read(" output , INPUT "),
            Direction {
                input: true,
                output: true,
                explicit_input: true
            }
        );
        assert_eq!(
            read("output"),
            Direction {
                input: false,
                output: true,
                explicit_input: false
            }
        );
        let none = Direction::from_properties(&Properties::default());
        assert_eq!(
            none,
            Direction {
                input: true,
                output: true,
                explicit_input: false
            }
        );
    }
}
