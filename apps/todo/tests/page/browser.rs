//! The page in headless Chromium: two windows of one person.

use std::time::{Duration, Instant};

use super::house::House;
use super::webdriver::{Browser, Window};
use super::{ALONE, until};

const ENTER: &str = "\u{e007}";
const DOWN: &str = "\u{e015}";
const DELETE: &str = "\u{e017}";
const SPACE: &str = " ";

/// The titles a window shows.
async fn titles(browser: &Browser, window: &Window) -> Vec<String> {
    let script = "return [...document.querySelectorAll('#list .title')].map((title) => title.textContent)";
    serde_json::from_value(browser.run(window, script).await).unwrap()
}

/// Where the test pictures go; set to look at them.
fn keep_picture(name: &str, picture: &[u8]) {
    if let Ok(folder) = std::env::var("TODO_PICTURES") {
        std::fs::write(format!("{folder}/{name}.png"), picture).unwrap();
    }
}

/// Opens the page in two windows and waits until both are live.
pub(crate) async fn two_windows(browser: &Browser, url: &str) -> (Window, Window) {
    let one = browser.open(url, true).await;
    browser
        .wait(&one, "document.querySelector('#live').dataset.state === 'live'")
        .await;
    let two = browser.open(url, false).await;
    browser
        .wait(&two, "document.querySelector('#live').dataset.state === 'live'")
        .await;
    (one, two)
}

/// Types a new task with the keyboard alone.
pub(crate) async fn add(browser: &Browser, window: &Window, title: &str) {
    browser.run(window, "document.activeElement.blur()").await;
    browser.keys(window, "n").await;
    browser.keys(window, &format!("{title}{ENTER}")).await;
}

/// N2: what one window does the other shows within a second. A busy machine may be late, but not each time.
pub(crate) async fn windows_stay_in_step(browser: &Browser, one: &Window, two: &Window) {
    let mut quickest = Duration::MAX;
    for (title, rounds) in [
        ("Water the plants", 1),
        ("Call Grandma", 2),
        ("Book the train", 3),
    ] {
        add(browser, one, title).await;
        let began = Instant::now();
        until("the other window has it", async || {
            titles(browser, two)
                .await
                .iter()
                .any(|seen| seen == title)
                .then_some(())
        })
        .await;
        quickest = quickest.min(began.elapsed());
        assert_eq!(titles(browser, one).await.len(), rounds, "no task is shown twice");
    }
    assert!(quickest < Duration::from_secs(1), "{quickest:?}");
    // Keyboard only: from the new task down to the first row, then done.
    browser.keys(one, DOWN).await;
    browser.keys(one, SPACE).await;
    browser
        .wait(
            two,
            "document.querySelector('#list .task').classList.contains('done')",
        )
        .await;
    browser
        .wait(
            two,
            "[...document.querySelectorAll('.toast')].some((t) => t.textContent.includes('Done: Water'))",
        )
        .await;
    browser
        .wait(two, "document.querySelector('#waiting').dataset.count === '0'")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_windows_stay_in_step_and_catch_up() {
    let _alone = ALONE.lock().await;
    let Some(browser) = Browser::start().await else {
        return;
    };
    let mut house = House::open().await;
    let (one, two) = two_windows(&browser, &house.url).await;
    keep_picture("empty", &browser.picture(&one).await);
    windows_stay_in_step(&browser, &one, &two).await;
    browser
        .wait(
            &one,
            "document.querySelectorAll('.service[data-state=up]').length === 6",
        )
        .await;
    browser
        .wait(
            &one,
            "/answered by tasks-[12] via gateway/.test(document.querySelector('#answered').textContent)",
        )
        .await;
    keep_picture("light", &browser.picture(&one).await);

    // The service that numbers events goes away: red, changes are still taken, what is on its way is counted.
    house.set_sidecar_down("notifications", true);
    browser
        .wait(
            &one,
            "document.querySelector('[data-app=notifications]')?.dataset.state === 'down'",
        )
        .await;
    add(&browser, &one, "Buy a birthday present").await;
    add(&browser, &one, "Reply to Noor").await;
    browser
        .wait(&one, "document.querySelector('#waiting').dataset.count === '2'")
        .await;
    browser
        .wait(&one, "!document.querySelector('#banner').hidden")
        .await;
    assert_eq!(titles(&browser, &one).await.len(), 5);
    assert_eq!(titles(&browser, &two).await.len(), 3);
    keep_picture("killed", &browser.picture(&one).await);
    house.set_sidecar_down("notifications", false);
    browser
        .wait(&two, "document.querySelectorAll('#list .task').length === 5")
        .await;
    browser
        .wait(&one, "document.querySelector('#waiting').dataset.count === '0'")
        .await;
    browser
        .wait(
            &one,
            "document.querySelector('[data-app=notifications]').dataset.state === 'up'",
        )
        .await;

    // The gateway itself restarts: both windows come back by themselves and miss nothing.
    house.stop("gateway").await;
    browser
        .wait(
            &one,
            "document.querySelector('#live').dataset.state === 'offline'",
        )
        .await;
    keep_picture("offline", &browser.picture(&one).await);
    house.start("gateway").await;
    for window in [&one, &two] {
        browser
            .wait(window, "document.querySelector('#live').dataset.state === 'live'")
            .await;
    }
    browser
        .run(&two, "document.querySelector('#list .task').focus()")
        .await;
    browser.keys(&two, DELETE).await;
    browser
        .wait(&one, "document.querySelectorAll('#list .task').length === 4")
        .await;
    browser
        .wait(
            &two,
            "[...document.querySelectorAll('.toast button')].some((b) => b.textContent === 'Undo')",
        )
        .await;

    // What cannot be saved is taken back with the reason.
    house.set_sidecar_down("tasks-1", true);
    house.set_sidecar_down("tasks-2", true);
    add(&browser, &one, "Cannot be").await;
    browser
        .wait(&one, "document.querySelectorAll('#list .task').length === 5")
        .await;
    browser.wait(&one, "[...document.querySelectorAll('.toast.bad')].some((t) => t.textContent.includes('was not added'))").await;
    browser
        .wait(&one, "document.querySelectorAll('#list .task').length === 4")
        .await;
    keep_picture("refused", &browser.picture(&one).await);

    browser.click(&one, "#theme").await;
    browser.click(&one, "#theme").await;
    browser
        .wait(&one, "document.documentElement.dataset.theme === 'dark'")
        .await;
    keep_picture("dark", &browser.picture(&one).await);
    browser.close().await;
}
