//! The `chat` service: add, list, finish, remind in plain sentences (N9).
//!
//! A small grammar reads them. Where a conversation component is set, that component is asked first what the
//! sentence means, in words that the grammar knows; what it answers is read by the same grammar, so that a model can
//! do nothing that a user cannot say. If it is away or talks nonsense the grammar reads the sentence itself.

mod grammar;

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::routing::post;
use axum::{Json, Router};
use http::{HeaderMap, Method, StatusCode};
use outrigger_kit::{App, Error};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::app_id;
use crate::instance::{Instance, KEY_HEADER};
use crate::model::{Task, TaskPage, is_user, now};
use crate::reply::Refusal;
use grammar::{Command, Which};

/// Longer sentences are not read.
const MAX_TEXT: usize = 500;
/// Tasks told in an answer.
const MAX_TOLD: usize = 20;

#[derive(Clone)]
struct Chat {
    instance: Instance,
    /// The conversation component that interprets, if there is one.
    conversation: Option<Arc<str>>,
}

/// The service. `conversation` names the component that interprets sentences.
///
/// # Errors
/// If the environment holds settings that it cannot use.
pub fn app(instance: &Instance, conversation: Option<&str>) -> Result<App, Error> {
    let chat = Chat {
        instance: instance.clone(),
        conversation: conversation.filter(|name| !name.is_empty()).map(Arc::from),
    };
    let routes = Router::new()
        .route("/users/{user}/messages", post(say))
        .with_state(chat);
    instance.service(routes, || 0)
}

#[derive(Deserialize)]
struct Message {
    text: String,
}

/// What the chat answers.
#[derive(Debug, Default, Serialize)]
struct Answer {
    /// In words.
    reply: String,
    /// Whether something was changed.
    changed: bool,
    /// Whether a conversation component said what was meant.
    interpreted: bool,
}

async fn say(
    State(chat): State<Chat>,
    Path(user): Path<String>,
    headers: HeaderMap,
    Json(message): Json<Message>,
) -> Result<Json<Answer>, Refusal> {
    if !is_user(&user) {
        return Err(Refusal::not_found("no such user"));
    }
    if message.text.chars().count() > MAX_TEXT {
        return Err(Refusal::invalid(format!(
            "a message has at most {MAX_TEXT} characters"
        )));
    }
    let (command, interpreted) = chat.understand(&message.text).await;
    let Some(command) = command else {
        return Ok(Json(Answer {
            reply: format!("I did not understand that. {}", grammar::HELP),
            ..Answer::default()
        }));
    };
    let key = headers
        .get(KEY_HEADER)
        .and_then(|key| key.to_str().ok())
        .map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
    let mut answer = chat.carry_out(&user, command, &key).await?;
    answer.interpreted = interpreted;
    Ok(Json(answer))
}

impl Chat {
    /// What is meant, and whether the conversation component said so.
    async fn understand(&self, text: &str) -> (Option<Command>, bool) {
        if let Some(component) = &self.conversation {
            match self.instance.client.converse(component, INSTRUCTIONS, text).await {
                Ok(said) => {
                    let command = said.lines().find_map(|line| grammar::read(line, now()));
                    if command.is_some() {
                        return (command, true);
                    }
                }
                Err(error) => tracing::warn!(%error, "the conversation component does not interpret now"),
            }
        }
        (grammar::read(text, now()), false)
    }

    async fn carry_out(&self, user: &str, command: Command, key: &str) -> Result<Answer, Refusal> {
        let changed = |reply: String| Answer {
            reply,
            changed: true,
            ..Answer::default()
        };
        Ok(match command {
            Command::Help => Answer {
                reply: grammar::HELP.to_owned(),
                ..Answer::default()
            },
            Command::List { all } => {
                let page = self.tasks(user).await?;
                Answer {
                    reply: told(&page.tasks, all),
                    ..Answer::default()
                }
            }
            Command::Add { title, remind_at } => {
                let body = json!({"title": title, "remindAt": remind_at});
                self.ask(Method::POST, &format!("users/{user}/tasks"), Some(&body), key)
                    .await?;
                changed(match remind_at {
                    None => format!("Added: {title}"),
                    Some(at) => format!("Added: {title}. I will remind you {}.", when(at)),
                })
            }
            Command::Finish(which) => match self.find(user, &which).await? {
                Err(reply) => reply,
                Ok(task) => {
                    self.patch(user, &task, &json!({"done": true}), key).await?;
                    changed(format!("Done: {}", task.title))
                }
            },
            Command::Remove(which) => match self.find(user, &which).await? {
                Err(reply) => reply,
                Ok(task) => {
                    let path = format!("users/{user}/tasks/{}", task.id);
                    self.ask(Method::DELETE, &path, None, key).await?;
                    changed(format!("Removed: {}", task.title))
                }
            },
            Command::Remind { which, at } => match self.find(user, &which).await? {
                Err(reply) => reply,
                Ok(task) => {
                    self.patch(user, &task, &json!({"remindAt": at}), key).await?;
                    changed(format!("I will remind you of {} {}.", task.title, when(at)))
                }
            },
        })
    }

    async fn tasks(&self, user: &str) -> Result<TaskPage, Refusal> {
        let page = self
            .instance
            .client
            .invoke(app_id::TASKS, Method::GET, &format!("users/{user}/tasks"))
            .fetch()
            .await?;
        Ok(page)
    }

    /// The task that is meant, or what to answer when that is not clear.
    async fn find(&self, user: &str, which: &Which) -> Result<Result<Task, Answer>, Refusal> {
        let page = self.tasks(user).await?;
        let unclear = |reply: String| {
            Ok(Err(Answer {
                reply,
                ..Answer::default()
            }))
        };
        let open: Vec<&Task> = page.tasks.iter().filter(|task| !task.done).collect();
        match which {
            Which::Number(number) => match open.get(number - 1) {
                Some(task) => Ok(Ok((*task).clone())),
                None => unclear(format!(
                    "There is no number {number}. {}",
                    told(&page.tasks, false)
                )),
            },
            Which::Words(words) => {
                let words = words.strip_prefix("the ").unwrap_or(words);
                let named: Vec<&&Task> = open
                    .iter()
                    .filter(|task| task.title.to_lowercase().contains(words))
                    .collect();
                match named.as_slice() {
                    [task] => Ok(Ok((**task).clone())),
                    [] => unclear(format!("I know no task with “{words}”.")),
                    several => {
                        let titles: Vec<_> = several.iter().take(5).map(|task| task.title.as_str()).collect();
                        unclear(format!("Which one: {}?", titles.join(", or ")))
                    }
                }
            }
        }
    }

    async fn patch(&self, user: &str, task: &Task, body: &Value, key: &str) -> Result<(), Refusal> {
        let path = format!("users/{user}/tasks/{}", task.id);
        self.ask(Method::PATCH, &path, Some(body), key).await
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>, key: &str) -> Result<(), Refusal> {
        let mut call = self
            .instance
            .client
            .invoke(app_id::TASKS, method, path)
            .header(KEY_HEADER, key)
            .idempotent();
        if let Some(body) = body {
            call = call.json(body);
        }
        let answer = call.send().await?;
        if answer.status.is_success() {
            return Ok(());
        }
        let body: Value = answer.json().unwrap_or_default();
        let message = body["error"]["message"]
            .as_str()
            .unwrap_or("the change was refused");
        Err(match answer.status {
            StatusCode::NOT_FOUND => Refusal::not_found(message),
            StatusCode::UNPROCESSABLE_ENTITY => Refusal::invalid(message),
            _ => Refusal::unavailable(message),
        })
    }
}

/// What a model is told before the sentence.
const INSTRUCTIONS: &str = "You translate what a user says into one command of a todo list. Answer with exactly one \
    line in one of these forms and nothing else: add TITLE | add TITLE in N minutes | list | done NUMBER | done WORDS \
    | remove NUMBER | remind me of NUMBER in N hours | help";

fn told(tasks: &[Task], all: bool) -> String {
    let open: Vec<&Task> = tasks.iter().filter(|task| !task.done).collect();
    let mut reply = match open.len() {
        0 => "Nothing to do.".to_owned(),
        1 => "1 task to do:".to_owned(),
        count => format!("{count} tasks to do:"),
    };
    for (number, task) in open.iter().take(MAX_TOLD).enumerate() {
        reply.push_str(&format!("\n{}. {}", number + 1, task.title));
    }
    if open.len() > MAX_TOLD {
        reply.push_str(&format!("\nand {} more", open.len() - MAX_TOLD));
    }
    if all {
        let done: Vec<_> = tasks
            .iter()
            .filter(|task| task.done)
            .take(MAX_TOLD)
            .map(|task| task.title.as_str())
            .collect();
        if !done.is_empty() {
            reply.push_str(&format!("\nDone: {}", done.join(", ")));
        }
    }
    reply
}

/// How far away a time is, in words.
fn when(at: i64) -> String {
    let minutes = (at - now() + 30_000) / 60_000;
    match minutes {
        ..1 => "in a moment".to_owned(),
        1 => "in a minute".to_owned(),
        2..90 => format!("in {minutes} minutes"),
        90..2880 => format!("in {} hours", (minutes + 30) / 60),
        _ => format!("in {} days", (minutes + 720) / 1440),
    }
}
