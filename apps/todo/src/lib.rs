//! The reference todo app: five services behind a page, each with a sidecar, talking only by app-id.
//!
//! * `gateway`: the page, its JSON API and its live stream; holds sessions. The only one that browsers reach.
//! * `tasks`: the task lists; every change leaves with its event in one transaction.
//! * `notifications`: subscribes to task events and keeps a numbered feed per user, which streams resume from.
//! * `stats`: subscribes to the same events and counts them per day.
//! * `preferences`: how a user likes the page.
//! * `chat`: the same list in plain sentences.
//!
//! The services know the kit and one another's app-ids, nothing of sidecars or backends (design D12).

pub mod audit;
pub mod chat;
pub mod gateway;
pub mod instance;
pub mod model;
pub mod notifications;
pub mod preferences;
pub mod presence;
pub mod reply;
pub mod stats;
pub mod tasks;

/// The app-ids.
pub mod app_id {
    /// The page and its API.
    pub const GATEWAY: &str = "gateway";
    /// Task lists.
    pub const TASKS: &str = "tasks";
    /// Feeds of what happened.
    pub const NOTIFICATIONS: &str = "notifications";
    /// How users like the page.
    pub const PREFERENCES: &str = "preferences";
    /// Counts per day.
    pub const STATS: &str = "stats";
    /// Tasks in plain sentences.
    pub const CHAT: &str = "chat";

    /// All of them, in the order that the page shows.
    pub const ALL: [&str; 6] = [GATEWAY, TASKS, NOTIFICATIONS, STATS, PREFERENCES, CHAT];
}

/// The topic of task events.
pub const TOPIC: &str = "tasks";
/// The topic of what is to be told to the outside.
pub const OUTSIDE_TOPIC: &str = "outside";
