//! The service over its gRPC and REST interfaces, with WebSocket servers in the test and in-memory sidecars.

mod connections;
mod instance;
mod lifecycle;
mod ownership;
mod peer;
mod publishing;
mod requests;
mod world;

use std::time::Duration;

/// Waits until something holds.
async fn until<F, Fut>(what: &str, mut holds: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let deadline = tokio::time::Instant::now() + Duration::from_secs(90);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Each case runs twice: with state and events by the sidecar, and by the gateway (F5, Z1).
macro_rules! both_ways {
    ($($module:ident::$name:ident,)*) => {
        mod by_sidecar {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                crate::$module::$name(crate::world::World::by_sidecar()).await;
            })*
        }
        mod by_gateway {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                crate::$module::$name(crate::world::World::by_gateway().await).await;
            })*
        }
    };
}

both_ways! {
    connections::a_connection_is_made_listed_written_down_and_forgotten,
    connections::what_is_no_websocket_url_or_answers_nothing_is_refused,
    connections::neighbours_are_refused_where_that_is_set,
    connections::connections_are_bounded,
    connections::tags_are_set_read_and_filtered_by_any_instance,
    connections::it_all_works_over_rest,
    lifecycle::a_broken_connection_comes_back_and_publishes_on,
    lifecycle::a_server_that_closes_is_called_again,
    lifecycle::without_reconnecting_a_close_is_the_end,
    lifecycle::attempts_are_used_up,
    lifecycle::a_user_can_leave_between_attempts,
    lifecycle::without_a_broker_connections_go_on,
    lifecycle::connections_tell_that_they_live,
    lifecycle::a_connection_that_never_opens_is_told_and_forgotten,
    lifecycle::a_connection_is_there_while_it_is_made_and_can_be_left,
    lifecycle::while_messages_cannot_be_published_a_connection_is_degraded,
    lifecycle::a_silent_server_degrades_its_connection,
    lifecycle::a_server_that_stays_silent_is_given_up,
    lifecycle::a_connection_that_keeps_dropping_is_unsteady,
    ownership::a_connection_whose_maker_died_is_forgotten,
    ownership::only_the_owner_may_do_things,
    ownership::connections_of_a_dead_instance_are_taken_over_once,
    ownership::connections_come_back_after_a_kill_before_the_service_is_ready,
    ownership::a_graceful_end_says_goodbye_and_keeps_connections_for_the_next_life,
    ownership::one_that_is_over_stays_over_through_a_restart,
    ownership::everything_is_removed_where_that_is_set,
    ownership::a_second_process_of_the_same_name_takes_everything,
    publishing::messages_are_published_in_the_envelope,
    publishing::topics_of_the_services_and_what_is_no_topic_are_refused,
    publishing::a_stop_holds_at_once,
    publishing::while_events_cannot_be_passed_on_nothing_is_lost_and_order_is_kept,
    publishing::a_single_message_waits_for_the_broker_too,
    publishing::large_messages_pass_one_by_one,
    publishing::thousands_of_messages_a_second_pass,
    requests::raw_messages_go_as_they_are_in_the_frame_of_their_type,
    requests::many_requests_are_answered_in_any_order_while_other_messages_flow,
    requests::without_an_answer_a_request_ends_in_time,
    requests::a_request_ends_when_the_connection_does,
    requests::a_server_that_answers_before_it_reads_on_is_read_meanwhile,
}
