//! The page in headless Chromium: prices of both exchanges move.

use super::running::{Pipeline, programs};
use super::webdriver::Browser;
use super::{ALONE, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prices_of_both_exchanges_move_on_the_page() {
    let _alone = ALONE.lock().await;
    let Some(programs) = programs() else { return };
    let Some(browser) = Browser::start().await else {
        return;
    };
    let pipeline = Pipeline::start(&programs, 20);
    let page = pipeline.page();
    until("the page is there", async || {
        let answer = super::client::Visitor::new(&page)
            .send("GET", "/config.json", None, &[])
            .await;
        answer.filter(|answer| answer.status == 200)
    })
    .await;
    let window = browser.open(&page, true).await;
    browser
        .wait(
            &window,
            "document.querySelector('#live').dataset.state === 'live'",
        )
        .await;
    for symbol in ["BTCUSDT", "ETHUSDT", "AAPL", "MSFT"] {
        let price = format!("document.querySelector('[data-symbol={symbol}] .price')?.textContent");
        browser.wait(&window, &price).await;
        let first = browser.run(&window, &format!("return {price}")).await;
        let moved = format!("{price} !== {first}");
        browser.wait(&window, &moved).await;
        let mean = format!("document.querySelector('[data-symbol={symbol}] .average').textContent > ''");
        browser.wait(&window, &mean).await;
    }
    let exchanges = browser
        .run(
            &window,
            "return [...document.querySelectorAll('[data-exchange]')].map((one) => one.dataset.exchange).sort()",
        )
        .await;
    assert_eq!(exchanges, serde_json::json!(["alpaca", "binance"]));
    browser
        .wait(
            &window,
            "Number(document.querySelector('#ticks').textContent) > 100",
        )
        .await;
    // Ticks pass one another on the way, so for a moment one may be missing.
    browser
        .wait(&window, "document.querySelector('#missing').textContent === '0'")
        .await;
    if let Ok(folder) = std::env::var("MARKET_PICTURES") {
        std::fs::write(format!("{folder}/market.png"), browser.picture(&window).await).unwrap();
    }
    browser.close().await;
    pipeline.stop().await;
}
