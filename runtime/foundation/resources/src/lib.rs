//! Dapr resource kinds: YAML in Go's two dialects, validation, scopes, references, templating and watching.
