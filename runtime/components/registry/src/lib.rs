//! The one list of component types and how each is built.
