use std::time::Duration;

use super::*;
use crate::outcome::Label;

fn answer(labels: usize) -> Arc<Answer> {
    Arc::new(Answer::Classification(vec![Label { label: "tone".into(), score: 1.0 }; labels]))
}

#[tokio::test(start_paused = true)]
async fn forgets_by_number_by_bytes_and_by_age() {
    let config = Config { max_entries: 2, max_bytes: 2000, ttl: Duration::from_secs(10) };
    let store = CacheStore::new(&config);
    let put = |key: u8, labels| store.insert([key; 32], answer(labels), Instant::now());
    let has = |key: u8| store.get(&[key; 32], Instant::now()).is_some();

    put(1, 1);
    put(2, 1);
    assert!(has(1), "now 2 is the one not asked for longest");
    put(3, 1);
    assert!(has(1) && !has(2) && has(3));

    put(4, 70);
    assert_eq!(store.size().0, 1, "a large answer takes the room of several");
    assert!(has(4) && store.size().1 <= 2000);

    put(5, 100);
    assert!(has(4) && !has(5), "one that fits nowhere pushes nothing out");

    tokio::time::advance(Duration::from_secs(10)).await;
    assert!(!has(4));
    assert_eq!(store.size(), (0, 0));
}
