use crate::testing::{call, get, open};

use super::ROUTER_CHECKER;

#[tokio::test]
async fn only_matching_requests_pass() {
    let handler = open(ROUTER_CHECKER, &[("rule", "^[A-Za-z0-9/._-]+$")])
        .await
        .unwrap();
    let seen = call(&handler, get("/v1.0/invoke/qcg.default/method")).await;
    assert_eq!(seen.status, 200);
    assert_eq!(
        seen.passed.unwrap().uri().path(),
        "/v1.0/invoke/qcg.default/method"
    );
    for refused in ["/v1.0/invoke/qcg.default/method/%20cat%20password", "/v1.0/x?a=b"] {
        let seen = call(&handler, get(refused)).await;
        assert_eq!(
            (seen.status, seen.body.as_str()),
            (400, "invalid router"),
            "{refused}"
        );
        assert!(seen.passed.is_none());
        assert_eq!(seen.headers["content-type"], "text/plain; charset=utf-8");
    }
}

#[tokio::test]
async fn go_2026_5242_dot_segments_do_not_pass_the_rule() {
    let rule = "^/v1.0/invoke/shop/method/public/";
    let handler = open(ROUTER_CHECKER, &[("rule", rule)]).await.unwrap();
    for trick in ["public/../admin", "public/%2e%2e/admin", "public/%2E./admin"] {
        let path = format!("/v1.0/invoke/shop/method/{trick}");
        assert_eq!(call(&handler, get(&path)).await.status, 400, "{trick}");
    }
    assert_eq!(
        call(&handler, get("//v1.0/invoke/shop/method/public/x"))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_rule_must_compile_and_an_empty_one_takes_all() {
    let error = open(ROUTER_CHECKER, &[("rule", "(")]).await.unwrap_err();
    assert!(error.to_string().contains("rule"), "{error}");
    let handler = open(ROUTER_CHECKER, &[]).await.unwrap();
    assert_eq!(call(&handler, get("/anything?x")).await.status, 200);
}
