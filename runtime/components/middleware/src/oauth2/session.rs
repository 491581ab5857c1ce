//! Who is logged in and who is about to.

use std::{
    collections::HashMap,
    fmt,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::HeaderValue;

/// How long a session lives (the default of upstream's session manager: two hours).
pub(super) const LIFETIME: Duration = Duration::from_hours(2);
/// Most sessions at a time; some kilobytes each. Anybody can begin one.
pub(super) const MAX_SESSIONS: usize = 10_000;

/// The secret name of a session: 244 random bits.
pub(super) type SessionId = String;

/// How far a session has come.
#[derive(Clone)]
pub(super) enum Session {
    /// Sent to the authorization server.
    Pending {
        /// What must come back.
        state: String,
        /// Where the person wanted to go.
        target: String,
    },
    /// Logged in.
    LoggedIn {
        /// The header's value.
        header: HeaderValue,
    },
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending { .. } => "Pending",
            Self::LoggedIn { .. } => "LoggedIn",
        })
    }
}

/// All sessions of one handler.
#[derive(Debug, Default)]
pub(super) struct Sessions(HashMap<SessionId, (Session, Instant)>);

impl Sessions {
    /// The session of this name, unless it is over.
    pub(super) fn get(&self, id: &str, now: Instant) -> Option<&Session> {
        let (session, until) = self.0.get(id)?;
        (now < *until).then_some(session)
    }

    /// Puts a session under a new name. With no place left the ones that are over go, else the one that ends first.
    pub(super) fn begin(&mut self, session: Session, lifetime: Duration, now: Instant) -> SessionId {
        if self.0.len() >= MAX_SESSIONS {
            self.0.retain(|_, (_, until)| now < *until);
        }
        if self.0.len() >= MAX_SESSIONS {
            // Whoever is only about to log in goes before those who are.
            let first = self
                .0
                .iter()
                .min_by_key(|(_, (session, until))| (matches!(session, Session::LoggedIn { .. }), *until))
                .map(|(id, _)| id.clone());
            if let Some(first) = first {
                self.0.remove(&first);
            }
        }
        let mut random = [0_u8; 32];
        random[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        random[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        let id = URL_SAFE_NO_PAD.encode(random);
        self.0.insert(id.clone(), (session, now + lifetime.min(LIFETIME)));
        id
    }

    /// Ends a session.
    pub(super) fn end(&mut self, id: &str) {
        self.0.remove(id);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
