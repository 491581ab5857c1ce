//! Runs workers that are WebAssembly modules (`application/wasm`), each in a store of its own (H2.3).
//!
//! A module exports `memory`, `alloc(len: i32) -> i32` and `process(ptr: i32, len: i32) -> i64`. The event stands at
//! `ptr` as JSON, in room that `alloc` gave; the result is where the answer stands, `ptr << 32 | len`, or 0 for none.
//! If there is `free(ptr: i32, len: i32)`, it is called for both afterwards; if there is `_initialize()`, once before
//! all. A trap is how code says that it failed. Nothing may be imported: the code computes, and reaches nothing else.
//!
//! An instance keeps its globals and memory from event to event and works on one at a time;
//! [`WasmSettings::instances`] of them work beside each other, each with globals of its own. After a trap, or when the
//! time is up, an instance is thrown away. Code runs on threads beside the executor, at most
//! [`WasmSettings::threads`] of all workers at a time, in slices, between which time and cancellation are looked at.

mod engine;
mod factory;
mod guest;
mod settings;

pub use factory::WasmEngine;
pub use settings::WasmSettings;
