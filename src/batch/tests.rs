use sferic_actors::ports::Arrival;

use super::*;
use crate::ingress;

fn request(body: &str) -> BatchRequest {
    BatchRequest {
        payload: body.to_owned().into(),
        encoding: Encoding::Json,
        answer_in: Encoding::Json,
        trace: TraceHeaders::default(),
        source: "batch",
    }
}

fn batches(first: usize) -> Batches {
    let gathers = watch::Sender::new(false).subscribe();
    Batches::new(first, 64, Duration::from_secs(1), Duration::from_secs(60), gathers)
}

/// Runs a batch in a pipeline that drops every frame, so that each fails; gives the arrivals and the answer.
async fn run(batches: &Batches, body: &str) -> (Vec<(String, Option<Failure>)>, serde_json::Value) {
    let (ingress, mut source, _closing) = ingress::open("i".to_owned(), Duration::from_secs(60));
    let entry = ingress.enter().unwrap();
    let mut seen = Vec::new();
    let mut running = Box::pin(batches.run(&entry, request(body)));
    loop {
        tokio::select! {
            answer = &mut running => return (seen, serde_json::from_slice(&answer.unwrap()).unwrap()),
            Some(Arrival { envelope, refused, .. }) = source.next() => seen.push((envelope.source, refused)),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_frame_is_put_in_with_its_source_and_the_answer_has_all_of_them() {
    let body = r#"{"samples": [{"source": "a.b"}, {"source": "a b"}, {}, 3]}"#;
    let (seen, answer) = run(&batches(4), body).await;
    let sources: Vec<_> = seen.iter().map(|(source, _)| source.as_str()).collect();
    assert_eq!(sources, ["a.b", "batch", "batch", "batch"]);
    assert!(seen.iter().all(|(_, refused)| refused.is_none()));
    assert_eq!(
        (&answer["batch_size"], &answer["failed"], &answer["successful"]),
        (&4.into(), &4.into(), &0.into())
    );
    assert_eq!(answer["predictions"].as_array().unwrap().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_the_others_are_not_begun_where_the_batch_says_so() {
    let body =
        |goes_on| format!(r#"{{"samples": [{{}}, {{}}, {{}}, {{}}, {{}}], "continue_on_error": {goes_on}}}"#);
    let batches = batches(2);
    let (seen, answer) = run(&batches, &body(false)).await;
    let refused: Vec<_> = seen.iter().map(|(_, refused)| refused.as_ref()).collect();
    assert_eq!(refused.len(), 5, "each frame ends in an outcome");
    // Two were begun together.
    assert_eq!(refused.iter().filter(|refused| refused.is_none()).count(), 2);
    let failure = refused[4].unwrap();
    assert_eq!(failure.code, FailureCode::ModelUnavailable);
    assert!(failure.message.contains("because frame 1 of the batch failed: the daemon is stopping"));
    assert_eq!(answer["failed"], 5);
    let (seen, _) = run(&batches, &body(true)).await;
    assert!(seen.iter().all(|(_, refused)| refused.is_none()));
}

#[tokio::test]
async fn no_batch_is_an_error_with_the_number() {
    let (ingress, _source, _closing) = ingress::open("i".to_owned(), Duration::from_secs(60));
    let entry = ingress.enter().unwrap();
    let batches = batches(4);
    let failure = batches.run(&entry, request(r#"{"samples": []}"#)).await.unwrap_err();
    assert_eq!(failure.code, FailureCode::InvalidFrame);
    assert!(failure.message.contains("0 frames"), "{}", failure.message);
}
