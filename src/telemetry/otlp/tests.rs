//! Answers of a collector.

use super::*;

#[test]
fn only_what_another_try_can_mend_is_tried_again() {
    let status = |code, after| ExportError::Status(StatusCode::from_u16(code).unwrap(), after).retry_after(1);
    for (code, again) in
        [(429, true), (502, true), (503, true), (504, true), (400, false), (401, false), (500, false)]
    {
        assert_eq!(status(code, None).is_some(), again, "{code}");
    }
    assert_eq!(status(503, Some(Duration::from_secs(7))), Some(Duration::from_secs(7)));
    assert_eq!(status(429, Some(Duration::from_hours(9))), Some(MAX_PAUSE));
    let broken = ExportError::from(HttpsError::Broken("reset".into()));
    assert_eq!([1, 2, 3].map(|tries| broken.retry_after(tries).unwrap().as_secs()), [1, 2, 4]);
    assert_eq!(ExportError::from(HttpsError::Address).retry_after(1), None);
}

#[test]
fn answers_are_read_with_numbers_and_strings() {
    let rejected = |text: &str| {
        let answer: ExportAnswer = serde_json::from_str(text).unwrap();
        answer.partial_success.unwrap_or_default().rejected_spans.parse::<u64>().unwrap_or(0)
    };
    assert_eq!(rejected("{}"), 0);
    assert_eq!(rejected(r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"x"}}"#), 3);
    assert_eq!(rejected(r#"{"partialSuccess":{"rejectedSpans":3}}"#), 3);
    assert_eq!(rejected(r#"{"partialSuccess":{}}"#), 0);
}
