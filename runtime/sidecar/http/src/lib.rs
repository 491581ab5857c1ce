//! The public HTTP server: segment matcher, token, CORS, limits, middleware pipelines, API logging.
