//! Where each of the protocol's tricky inputs, 1 to 58, is tested: a table, and a test that it tells the truth.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

use std::collections::BTreeMap;
use std::path::Path;

const CALLS: &str = "tests/ingest/calls.rs";
const SERVE: &str = "tests/serve.rs";
const NORMALISE: &str = "sdk/src/normalise/tests.rs";
const FUNCTIONS: &str = "sdk/src/manifest/functions/tests.rs";
const OUTCOMES: &str = "sdk/src/manifest/run/tests.rs";
const ROUTING: &str = "src/routing/tests.rs";
const DELIVERY: &str = "src/delivery/tests/mod.rs";
const JOURNAL: &str = "src/queue/journal/tests.rs";

/// A row: its number, the input in short, and its tests as file and function. No test: what will bring it.
type Row = (u32, &'static str, Result<&'static [(&'static str, &'static str)], &'static str>);

const ROWS: &[Row] = &[
    (
        1,
        "/v1/import/, key in the body",
        Ok(&[(CALLS, "row_1_java_posts_to_import_with_a_slash_and_the_key_in_the_body")]),
    ),
    (2, "gzip that says it is a form", Ok(&[(CALLS, "row_2_rudderstack_node_sends_gzip_as_a_form")])),
    (3, "text/plain without Authorization", Ok(&[(CALLS, "row_3_a_page_posts_text_without_authorization")])),
    (4, "preflight", Ok(&[(CALLS, "row_4_a_preflight_is_answered")])),
    (5, "Retry-After that pages can read", Ok(&[(CALLS, "row_5_a_page_can_read_when_to_try_again")])),
    (6, "broken and exploding gzip", Ok(&[(CALLS, "row_6_broken_and_exploding_gzip_is_refused")])),
    (7, "gzip that is none", Ok(&[(CALLS, "row_7_plain_json_that_says_gzip")])),
    (8, "Basic without a colon", Ok(&[(CALLS, "row_8_basic_authorization_without_a_colon")])),
    (9, "two keys", Ok(&[(CALLS, "row_9_two_keys_that_differ")])),
    (
        10,
        "batches that are empty or none",
        Ok(&[
            (CALLS, "row_10_batches_that_are_empty_or_none"),
            ("sdk/src/normalise/envelope.rs", "bodies_that_are_no_batch"),
        ]),
    ),
    (
        11,
        "a call without ids among good ones",
        Ok(&[
            (CALLS, "row_11_a_call_without_ids_is_rejected_alone"),
            ("sdk/src/normalise/envelope.rs", "calls_of_a_batch_are_refused_one_by_one"),
        ]),
    ),
    (
        12,
        "a batch of several types",
        Ok(&[
            (CALLS, "row_12_a_batch_of_several_types"),
            (SERVE, "other_calls_are_counted_unless_a_destination_takes_them"),
        ]),
    ),
    (13, "2,501 calls", Ok(&[(CALLS, "row_13_calls_beyond_the_limit_are_rejected_and_counted")])),
    (14, "one call of 33 KB", Ok(&[(CALLS, "row_14_one_call_that_is_too_large")])),
    (
        15,
        "numbers as ids",
        Ok(&[
            (NORMALISE, "identity"),
            (SERVE, "tricky_ids_times_and_traits_reach_the_vendor_in_its_own_form"),
        ]),
    ),
    (16, "blank ids", Ok(&[(NORMALISE, "refusals"), (CALLS, "rows_15_to_20_ids_and_traits")])),
    (
        17,
        "userId null, anonymousId given",
        Ok(&[(NORMALISE, "identity"), (CALLS, "rows_15_to_20_ids_and_traits")]),
    ),
    (18, "user_id and userId", Ok(&[(NORMALISE, "identity")])),
    (
        19,
        "traits in the context only",
        Ok(&[
            (NORMALISE, "traits_stand_in_traits_or_in_the_context"),
            (CALLS, "rows_15_to_20_ids_and_traits"),
        ]),
    ),
    (
        20,
        "traits that are no object",
        Ok(&[(NORMALISE, "refusals"), (CALLS, "rows_15_to_20_ids_and_traits")]),
    ),
    (21, "context of the batch", Ok(&[(CALLS, "row_21_go_gives_context_to_the_batch_only")])),
    (22, "originalTimestamp alone", Ok(&[(NORMALISE, "times")])),
    (
        23,
        "the clock-skew formula",
        Ok(&[(NORMALISE, "times"), (SERVE, "times_of_calls_reach_the_vendor_corrected")]),
    ),
    (
        24,
        "a historical timestamp",
        Ok(&[(NORMALISE, "times"), (SERVE, "times_of_calls_reach_the_vendor_corrected")]),
    ),
    (
        25,
        "sentAt before timestamp",
        Ok(&[(NORMALISE, "times"), (SERVE, "times_of_calls_reach_the_vendor_corrected")]),
    ),
    (
        26,
        "receivedAt of the client",
        Ok(&[(NORMALISE, "times"), (SERVE, "times_of_calls_reach_the_vendor_corrected")]),
    ),
    (27, "nanoseconds and +05:30", Ok(&[(NORMALISE, "times")])),
    (
        28,
        "leap seconds and the ends of time",
        Ok(&[(NORMALISE, "times"), ("sdk/src/dates.rs", "refuses_what_is_no_date_or_could_be_two")]),
    ),
    (
        29,
        "the same messageId again",
        Ok(&[
            (CALLS, "rows_29_and_31_repeated_calls_are_success"),
            (SERVE, "a_repeated_message_id_is_delivered_once_also_after_a_restart"),
        ]),
    ),
    (30, "odd messageIds", Ok(&[(NORMALISE, "message_ids"), (CALLS, "row_30_odd_message_ids")])),
    (
        31,
        "a retry after a 503 that may have stored the batch",
        Ok(&[
            (CALLS, "rows_29_and_31_repeated_calls_are_success"),
            (JOURNAL, "a_failed_write_or_sync_fails_its_appends_and_the_next_go_on"),
            (JOURNAL, "a_duplicate_shares_the_fate_of_an_original_that_is_being_written"),
        ]),
    ),
    (32, "first_name null, firstName given", Ok(&[(NORMALISE, "of_several_spellings_one_counts")])),
    (33, "firstName and first_name", Ok(&[(NORMALISE, "of_several_spellings_one_counts")])),
    (
        34,
        "name from first and last",
        Ok(&[(NORMALISE, "names"), (SERVE, "tricky_ids_times_and_traits_reach_the_vendor_in_its_own_form")]),
    ),
    (
        35,
        "first and last from a name with spaces",
        Ok(&[(NORMALISE, "names"), (FUNCTIONS, "letters_and_words")]),
    ),
    (36, "a blank name", Ok(&[(NORMALISE, "names")])),
    (
        37,
        "createdAt 2020-13-45",
        Ok(&[
            (NORMALISE, "values_by_their_rules"),
            (SERVE, "tricky_ids_times_and_traits_reach_the_vendor_in_its_own_form"),
        ]),
    ),
    (
        38,
        "created_at in seconds and milliseconds",
        Ok(&[
            (NORMALISE, "values_by_their_rules"),
            ("sdk/src/dates.rs", "numbers_are_seconds_or_milliseconds"),
            (SERVE, "tricky_ids_times_and_traits_reach_the_vendor_in_its_own_form"),
        ]),
    ),
    (39, "created and createdAt", Ok(&[(NORMALISE, "of_several_spellings_one_counts")])),
    (
        40,
        "addresses of all kinds",
        Ok(&[(NORMALISE, "every_alias_is_its_trait"), (NORMALISE, "values_by_their_rules")]),
    ),
    (41, "companies of all kinds", Ok(&[(NORMALISE, "values_by_their_rules")])),
    (42, "subscription states", Ok(&[(NORMALISE, "values_by_their_rules")])),
    (43, "money", Ok(&[(NORMALISE, "values_by_their_rules")])),
    (44, "currencies", Ok(&[(NORMALISE, "values_by_their_rules")])),
    (45, "custom keys with spaces and dots", Ok(&[(NORMALISE, "custom_traits_stay_as_they_are")])),
    (46, "all: false in lower case", Ok(&[(ROUTING, "the_truth_table")])),
    (47, "flags as texts and null", Ok(&[(ROUTING, "the_truth_table")])),
    (
        48,
        "only one vendor, with options",
        Ok(&[
            (ROUTING, "the_truth_table"),
            (ROUTING, "options_reach_only_the_one_they_name"),
            (SERVE, "integrations_flags_decide_who_gets_a_call"),
        ]),
    ),
    (
        49,
        "integrations [] from PHP",
        Ok(&[(ROUTING, "the_truth_table"), (SERVE, "integrations_flags_decide_who_gets_a_call")]),
    ),
    (
        50,
        "opt-in and All: true",
        Ok(&[(ROUTING, "the_truth_table"), (SERVE, "integrations_flags_decide_who_gets_a_call")]),
    ),
    (51, "consent without preferences", Err("consent")),
    (52, "a suppressed userId", Err("deletion and suppression of users")),
    (53, "settings for an unknown key", Ok(&[(CALLS, "row_53_settings_for_analytics_js")])),
    (54, "hardly JSON", Ok(&[(CALLS, "row_54_texts_that_are_hardly_json"), (NORMALISE, "refusals")])),
    (55, "pixels", Ok(&[(CALLS, "row_55_pixels_always_show")])),
    (
        56,
        "a redirect of the vendor",
        Ok(&[
            ("src/transport/tests.rs", "a_redirect_is_an_answer"),
            (OUTCOMES, "the_standard_table"),
            (SERVE, "a_redirect_of_the_vendor_is_not_followed"),
        ]),
    ),
    (
        57,
        "every form of Retry-After",
        Ok(&[
            (FUNCTIONS, "waits_are_milliseconds_from_now"),
            (OUTCOMES, "the_standard_table"),
            ("src/delivery/outcome.rs", "a_wait_beyond_reason_is_cut_short"),
            (DELIVERY, "throttling_pauses_the_destination_and_uses_up_no_attempt"),
            (SERVE, "retry_after_pauses_the_destination_and_uses_up_no_attempt"),
        ]),
    ),
    (
        58,
        "a full disk",
        Ok(&[
            (CALLS, "row_58_what_cannot_be_made_durable_is_not_acknowledged"),
            (JOURNAL, "a_full_disk_refuses_and_goes_on_by_itself_when_there_is_room"),
        ]),
    ),
];

#[test]
fn every_row_has_tests_or_says_what_will_bring_them() {
    let numbers: Vec<u32> = ROWS.iter().map(|(number, ..)| *number).collect();
    assert_eq!(numbers, (1..=58).collect::<Vec<_>>());
    let mut texts = BTreeMap::new();
    let mut missing = Vec::new();
    for (number, input, tests) in ROWS {
        match tests {
            Err(later) => assert!(!later.is_empty(), "row {number}, {input}"),
            Ok(tests) => {
                assert!(!tests.is_empty(), "row {number}, {input}");
                for (file, name) in *tests {
                    let text = texts.entry(*file).or_insert_with(|| read(file));
                    if !has_test(text, name) {
                        missing.push(format!("row {number}, {input}: {file} has no test {name}"));
                    }
                }
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn a_function_that_is_no_test_does_not_count() {
    let text = "#[test]\nfn one() {\n#[tokio::test(start_paused = true)]\nasync fn two() {\nfn three() {\n";
    let found = ["one", "two", "three", "on"].map(|name| has_test(text, name));
    assert_eq!(found, [true, true, false, false]);
}

fn read(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// Whether a text holds a function of that name right below an attribute that makes it a test.
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.windows(2).any(|pair| {
        let is_test = pair[0] == "#[test]" || pair[0].starts_with("#[tokio::test");
        let function = pair[1].trim_start_matches("async ");
        is_test
            && function
                .strip_prefix("fn ")
                .and_then(|rest| rest.split_once('('))
                .is_some_and(|(n, _)| n == name)
    })
}
