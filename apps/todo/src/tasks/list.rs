//! A user's list and its changes, without any I/O.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::model::{Happening, Task, TaskPage};
use crate::reply::Refusal;

/// A list is one document; this keeps it a small one.
const MAX_TASKS: usize = 500;
const MAX_TITLE: usize = 200;
/// Changes remembered by name. Retries come within seconds, not dozens of changes later.
const MAX_RECEIPTS: usize = 32;
/// Changes by one request; more done tasks than this are cleared by asking again.
const MAX_CLEARED: usize = 100;

/// What is stored for a user.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct List {
    rev: u64,
    tasks: Vec<Task>,
    #[serde(default)]
    receipts: Vec<Receipt>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Receipt {
    key: String,
    done: Done,
}

/// What a change has led to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// The task added or changed.
    pub task: Option<Task>,
    /// The revision of the list after it.
    pub rev: u64,
    /// The tasks removed.
    pub removed: Vec<String>,
}

/// A change to make, already checked for itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Adds a task.
    Create {
        /// What to do.
        title: String,
        /// When its user wants to be reminded of it.
        remind_at: Option<i64>,
    },
    /// Changes parts of a task.
    Update {
        /// Which task.
        id: String,
        /// Another title.
        title: Option<String>,
        /// Whether it is done now.
        done: Option<bool>,
        /// To be reminded at another time, or no more.
        remind_at: Option<Option<i64>>,
        /// Only if it is still in this revision.
        if_rev: Option<u64>,
    },
    /// Removes a task.
    Delete {
        /// Which task.
        id: String,
        /// Only if it is still in this revision.
        if_rev: Option<u64>,
    },
    /// Removes what is done.
    ClearDone,
    /// Tells of every task whose reminder is due.
    Remind,
}

/// A change made: what to answer, and what happened to which tasks when.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    /// What to answer.
    pub done: Done,
    /// What happened to which task, and when.
    pub happenings: Vec<(Happening, Task, i64)>,
}

fn title(text: &str) -> Result<String, Refusal> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.chars().count() {
        0 => Err(Refusal::invalid("a task needs a title")),
        1..=MAX_TITLE => Ok(text),
        _ => Err(Refusal::invalid(format!(
            "a title has at most {MAX_TITLE} characters"
        ))),
    }
}

impl Change {
    /// Adds a task with this title.
    ///
    /// # Errors
    /// [`Refusal`] if the title is empty or too long.
    pub fn create(text: &str, remind_at: Option<i64>) -> Result<Self, Refusal> {
        Ok(Self::Create {
            title: title(text)?,
            remind_at,
        })
    }

    /// Changes those parts of a task that are given.
    ///
    /// # Errors
    /// [`Refusal`] if the title is empty or too long.
    pub fn update(
        id: String,
        text: Option<&str>,
        done: Option<bool>,
        remind_at: Option<Option<i64>>,
        if_rev: Option<u64>,
    ) -> Result<Self, Refusal> {
        Ok(Self::Update {
            id,
            title: text.map(title).transpose()?,
            done,
            remind_at,
            if_rev,
        })
    }
}

impl List {
    /// The list as it is shown.
    pub fn page(self) -> TaskPage {
        TaskPage {
            rev: self.rev,
            tasks: self.tasks,
        }
    }

    /// When the next reminder is due.
    pub fn next_reminder(&self) -> Option<i64> {
        self.tasks.iter().filter_map(|task| task.remind_at).min()
    }

    /// What the change of this name has led to, if it was made already.
    pub fn receipt(&self, key: &str) -> Option<Done> {
        self.receipts
            .iter()
            .find(|receipt| receipt.key == key)
            .map(|receipt| receipt.done.clone())
    }

    /// Makes a change. A refused one leaves the list as it was.
    ///
    /// # Errors
    /// [`Refusal`] if there is no such task, it has changed since, or the list is full.
    pub fn apply(&mut self, change: &Change, key: &str, now: i64) -> Result<Outcome, Refusal> {
        let mut happenings = Vec::new();
        let mut done = Done::default();
        match change {
            Change::Create { title, remind_at } => {
                if self.tasks.len() >= MAX_TASKS {
                    let message = format!("a list has at most {MAX_TASKS} tasks; remove some first");
                    return Err(Refusal::new(
                        StatusCode::UNPROCESSABLE_ENTITY,
                        "LIST_FULL",
                        message,
                    ));
                }
                self.rev += 1;
                let task = Task {
                    id: uuid::Uuid::new_v4().to_string(),
                    title: title.clone(),
                    done: false,
                    created_at: now,
                    completed_at: None,
                    remind_at: *remind_at,
                    rev: self.rev,
                };
                self.tasks.push(task.clone());
                happenings.push((Happening::Created, task.clone(), now));
                done.task = Some(task);
            }
            Change::Update {
                id,
                title,
                done: set_done,
                remind_at,
                if_rev,
            } => {
                let next = self.rev + 1;
                let task = self.find(id, *if_rev)?;
                let mut changed = task.clone();
                if let Some(title) = title {
                    changed.title.clone_from(title);
                }
                if let Some(set_done) = *set_done
                    && set_done != changed.done
                {
                    changed.done = set_done;
                    changed.completed_at = set_done.then_some(now);
                }
                if let Some(remind_at) = remind_at {
                    changed.remind_at = *remind_at;
                }
                if changed.done {
                    // Nobody wants to hear of what is done.
                    changed.remind_at = None;
                }
                if changed != *task {
                    let completed = changed.done && !task.done;
                    changed.rev = next;
                    *task = changed.clone();
                    self.rev = next;
                    let happening = if completed {
                        Happening::Completed
                    } else {
                        Happening::Updated
                    };
                    happenings.push((happening, changed.clone(), now));
                }
                done.task = Some(changed);
            }
            Change::Delete { id, if_rev } => {
                let id = self.find(id, *if_rev)?.id.clone();
                self.remove(&[id], now, &mut happenings);
            }
            Change::ClearDone => {
                let finished = self.tasks.iter().filter(|task| task.done);
                let ids: Vec<_> = finished.take(MAX_CLEARED).map(|task| task.id.clone()).collect();
                self.remove(&ids, now, &mut happenings);
            }
            Change::Remind => {
                for task in &mut self.tasks {
                    if task.remind_at.is_some_and(|at| at <= now) {
                        self.rev += 1;
                        task.rev = self.rev;
                        task.remind_at = None;
                        happenings.push((Happening::Reminded, task.clone(), now));
                    }
                }
            }
        }
        done.rev = self.rev;
        done.removed = happenings
            .iter()
            .filter(|(happening, ..)| *happening == Happening::Deleted)
            .map(|(_, task, _)| task.id.clone())
            .collect();
        if !happenings.is_empty() {
            self.receipts.push(Receipt {
                key: key.to_owned(),
                done: done.clone(),
            });
            let surplus = self.receipts.len().saturating_sub(MAX_RECEIPTS);
            self.receipts.drain(..surplus);
        }
        Ok(Outcome { done, happenings })
    }

    fn remove(&mut self, ids: &[String], now: i64, happenings: &mut Vec<(Happening, Task, i64)>) {
        for id in ids {
            if let Some(index) = self.tasks.iter().position(|task| task.id == *id) {
                self.rev += 1;
                let mut task = self.tasks.remove(index);
                task.rev = self.rev;
                happenings.push((Happening::Deleted, task, now));
            }
        }
    }

    /// The task, if it is still in the revision that the caller has seen; else 409 with the task as it is (N5).
    fn find(&mut self, id: &str, if_rev: Option<u64>) -> Result<&mut Task, Refusal> {
        let task = self
            .tasks
            .iter_mut()
            .find(|task| task.id == id)
            .ok_or_else(|| Refusal::not_found("this task is gone"))?;
        match if_rev {
            Some(seen) if seen != task.rev => Err(Refusal::new(
                StatusCode::CONFLICT,
                "CONFLICT",
                "somebody else has changed this task",
            )
            .with_current(json!(task))),
            _ => Ok(task),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(titles: &[&str]) -> List {
        let mut list = List::default();
        for (n, title) in titles.iter().enumerate() {
            list.apply(&Change::create(title, None).unwrap(), &format!("create-{n}"), 1)
                .unwrap();
        }
        list
    }

    fn update(list: &List, title: Option<&str>, done: Option<bool>, if_rev: Option<u64>) -> Change {
        Change::update(list.tasks[0].id.clone(), title, done, None, if_rev).unwrap()
    }

    fn kinds(outcome: &Outcome) -> Vec<Happening> {
        outcome
            .happenings
            .iter()
            .map(|(happening, ..)| *happening)
            .collect()
    }

    #[test]
    fn each_event_is_one_revision() {
        let mut list = with(&["a", "b"]);
        let change = update(&list, None, Some(true), None);
        let completed = list.apply(&change, "1", 5).unwrap();
        assert_eq!(kinds(&completed), [Happening::Completed]);
        assert_eq!(completed.done.task.as_ref().unwrap().completed_at, Some(5));
        let change = update(&list, Some("A"), Some(false), None);
        assert_eq!(kinds(&list.apply(&change, "2", 6).unwrap()), [Happening::Updated]);
        assert_eq!(
            (list.rev, list.tasks[0].rev, list.tasks[0].completed_at),
            (4, 4, None)
        );
        let nothing = list.apply(&change, "3", 7).unwrap();
        assert!(nothing.happenings.is_empty() && list.rev == 4);
    }

    #[test]
    fn clearing_removes_what_is_done() {
        let mut list = with(&["a", "b"]);
        let change = update(&list, None, Some(true), None);
        list.apply(&change, "1", 5).unwrap();
        let cleared = list.apply(&Change::ClearDone, "2", 6).unwrap();
        assert_eq!(kinds(&cleared), [Happening::Deleted]);
        assert_eq!(
            (cleared.done.removed.len(), list.tasks.len(), list.rev),
            (1, 1, 4)
        );
    }

    #[test]
    fn an_old_revision_is_a_conflict_with_the_present_task() {
        let mut list = with(&["a"]);
        let rename = update(&list, Some("mine"), None, Some(1));
        list.apply(&update(&list, Some("theirs"), None, Some(1)), "1", 2)
            .unwrap();
        let before = list.clone();
        let refusal = list.apply(&rename, "2", 3).unwrap_err();
        assert!(format!("{refusal:?}").contains("theirs"));
        assert_eq!(list, before);
    }

    #[test]
    fn a_named_change_is_remembered_for_a_while() {
        let mut list = with(&["a"]);
        let receipt = list.receipt("create-0").unwrap();
        assert_eq!(receipt.task.unwrap().title, "a");
        for n in 0..MAX_RECEIPTS {
            list.apply(&Change::create("x", None).unwrap(), &format!("later-{n}"), 1)
                .unwrap();
        }
        assert_eq!(list.receipt("create-0"), None);
    }

    #[test]
    fn reminders_are_told_once_when_due() {
        let mut list = with(&["a"]);
        list.apply(&Change::create("b", Some(50)).unwrap(), "1", 1)
            .unwrap();
        list.apply(&Change::create("c", Some(90)).unwrap(), "2", 1)
            .unwrap();
        assert_eq!(list.next_reminder(), Some(50));
        let told = list.apply(&Change::Remind, "3", 60).unwrap();
        assert_eq!(kinds(&told), [Happening::Reminded]);
        assert_eq!(told.happenings[0].1.title, "b");
        assert_eq!(list.next_reminder(), Some(90));
        assert!(
            list.apply(&Change::Remind, "4", 61)
                .unwrap()
                .happenings
                .is_empty()
        );
        // What is done needs no reminder.
        let done = Change::update(list.tasks[2].id.clone(), None, Some(true), None, None).unwrap();
        list.apply(&done, "5", 62).unwrap();
        assert_eq!(list.next_reminder(), None);
    }

    #[test]
    fn titles_and_lists_have_bounds() {
        assert!(Change::create(" \n ", None).is_err());
        assert!(Change::create(&"x".repeat(201), None).is_err());
        assert_eq!(
            Change::create(" a \n b ", None).unwrap(),
            Change::Create {
                title: "a b".to_owned(),
                remind_at: None,
            }
        );
        let mut list = List::default();
        for n in 0..MAX_TASKS {
            list.apply(&Change::create("x", None).unwrap(), &n.to_string(), 1)
                .unwrap();
        }
        assert!(
            list.apply(&Change::create("x", None).unwrap(), "more", 1)
                .is_err()
        );
    }
}
