//! Bindings: output as an API for the app, input as events to the app (A5).

mod answer;
mod delivery;
mod direction;
mod discovery;
mod input;
mod output;

pub use answer::AppState;
pub use direction::Direction;
pub use input::{InputBindings, InputBindingsOptions, NoApp};
pub use output::{BindingsService, BindingsServiceOptions, InvokeFailure, InvokeOutcome};
