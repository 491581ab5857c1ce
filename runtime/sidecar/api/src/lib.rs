//! What the sidecar's surfaces share: the API error table, routes, requests and replies.
