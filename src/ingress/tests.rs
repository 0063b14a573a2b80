use super::*;

fn frame() -> Frame {
    Frame {
        payload: Bytes::from_static(b"f"),
        encoding: Encoding::Json,
        answer_in: Encoding::Json,
        source: "http".to_owned(),
        trace: TraceHeaders::default(),
        refused: None,
        is_raw: false,
    }
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn the_source_ends_once_nobody_is_in_any_more() {
    let (ingress, mut source, closing) = open("i".to_owned(), LONG);
    let entry = ingress.enter().unwrap();
    let asking = tokio::spawn({
        let entry = entry.clone();
        async move { entry.ask(frame()).await }
    });
    let closing = tokio::spawn(closing.close(LONG));
    while ingress.enter().is_some() {
        tokio::task::yield_now().await;
    }
    // Who is in may still put frames in, each with an id of its own.
    let first = source.next().await.unwrap();
    let second = tokio::spawn(async move { entry.ask(frame()).await });
    let second_arrival = source.next().await.unwrap();
    assert_eq!(
        [&first, &second_arrival].map(|arrival| arrival.envelope.direct_id.clone().unwrap()),
        ["i:1", "i:2"]
    );
    assert!(!closing.is_finished());
    drop((first, second_arrival));
    for asked in [asking, second] {
        let answered = asked.await.unwrap();
        assert_eq!(
            answered.result.unwrap_err().code,
            FailureCode::ModelUnavailable,
            "its origin was dropped"
        );
    }
    assert!(source.next().await.is_none());
    closing.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_stays_too_long_is_cut_and_what_was_put_in_is_read() {
    let (ingress, mut source, closing) = open("i".to_owned(), LONG);
    let entry = ingress.enter().unwrap();
    let mut asking = Box::pin(entry.ask(frame()));
    assert!(futures::poll!(&mut asking).is_pending());
    let closing = tokio::spawn(closing.close(Duration::from_secs(1)));
    assert!(source.next().await.is_some());
    let begun = Instant::now();
    assert!(source.next().await.is_none());
    assert_eq!(begun.elapsed().as_secs(), 1);
    closing.await.unwrap();
    let refused = entry.ask(frame()).await.result.unwrap_err();
    assert_eq!((refused.code, refused.message.contains("stopping")), (FailureCode::ModelUnavailable, true));
}

#[tokio::test(start_paused = true)]
async fn every_wait_ends() {
    let (ingress, mut source, _closing) = open("i".to_owned(), LONG);
    let entry = ingress.enter().unwrap();
    let mut waiting: Vec<_> = (0..QUEUE).map(|_| Box::pin(entry.ask(frame()))).collect();
    for asking in &mut waiting {
        assert!(futures::poll!(asking).is_pending());
    }
    let failure = entry.ask(frame()).await.result.unwrap_err();
    assert_eq!(failure.code, FailureCode::Overloaded);
    assert!(failure.message.contains("64 frames"), "{}", failure.message);
    let _held = source.next().await.unwrap();
    let failure = waiting.remove(0).await.result.unwrap_err();
    assert_eq!((failure.code, failure.message.contains("60s")), (FailureCode::Internal, true));
}

#[test]
fn a_source_is_what_may_stand_in_a_subject() {
    for source in ["a", "north.rx2", "é", "a-b_c"] {
        assert_eq!(source_or(Some(source.to_owned()), "http"), source);
    }
    for source in
        ["", ".", "a..b", ".a", "a.", "a b", "a.*", ">", "a\nb", "a\tb", "a\u{a0}b", &"x".repeat(1025)]
    {
        assert_eq!(source_or(Some(source.to_owned()), "http"), "http", "{source:?}");
    }
    assert_eq!(source_or(None, "batch"), "batch");
}
