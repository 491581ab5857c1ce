//! `pubsub.sqlite`.
