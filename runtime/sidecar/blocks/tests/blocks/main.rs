//! The small building blocks over both surfaces, with embedded components and apps in this process.

mod bindings;
mod configuration;
mod conversation;
mod crypto;
mod lock;
mod secrets;
mod support;
