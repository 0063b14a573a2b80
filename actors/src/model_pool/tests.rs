use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::core::AGEING;
use super::*;
use crate::frame::{ModelId, Priority};

#[derive(Debug, Clone, PartialEq)]
struct Item {
    id: u64,
    model: Arc<ModelId>,
    columns: usize,
    priority: Priority,
    deadline: Instant,
}

impl Schedulable for Item {
    fn batch_key(&self) -> (&Arc<ModelId>, [usize; 3]) {
        (&self.model, [1, 1, self.columns])
    }
    fn max_batch(&self) -> usize {
        if self.model.name == "single" { 1 } else { usize::MAX }
    }
    fn priority(&self) -> Priority {
        self.priority
    }
    fn is_settled(&self, now: Instant) -> bool {
        now >= self.deadline
    }
}

fn model(name: &str) -> Arc<ModelId> {
    Arc::new(ModelId { name: name.into(), version: "1".into(), digest: String::new() })
}

fn item(id: u64, priority: Priority) -> Item {
    Item { id, model: model("m"), columns: 1, priority, deadline: Instant::now() + Duration::from_secs(3600) }
}

fn run(scheduler: &mut Scheduler<Item>, now: Instant) -> Vec<u64> {
    match scheduler.next(now, &mut Vec::new()) {
        Next::Run(batch) => batch.into_iter().map(|item| item.id).collect(),
        Next::WaitUntil(_) | Next::Idle => Vec::new(),
    }
}

#[test]
fn a_lone_frame_is_run_at_once_and_delay_is_opt_in() {
    let now = Instant::now();
    let mut eager = Scheduler::new(Config::default());
    eager.push(item(1, Priority::Normal), now).unwrap();
    assert_eq!(run(&mut eager, now), [1]);

    let delay = Duration::from_millis(5);
    let mut patient = Scheduler::new(Config { max_batch_delay: delay, max_batch: 2, ..Config::default() });
    patient.push(item(1, Priority::Normal), now).unwrap();
    assert!(matches!(patient.next(now, &mut Vec::new()), Next::WaitUntil(then) if then == now + delay));
    assert_eq!(run(&mut patient, now + delay), [1]);
    patient.push(item(2, Priority::Normal), now).unwrap();
    patient.push(item(3, Priority::Normal), now).unwrap();
    assert_eq!(run(&mut patient, now), [2, 3], "a full batch does not wait");
}

#[test]
fn the_urgent_go_first_but_nobody_starves() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(Config { max_batch: 1, ..Config::default() });
    scheduler.push(item(1, Priority::Low), now).unwrap();
    scheduler.push(item(2, Priority::Critical), now + AGEING).unwrap();
    assert_eq!(run(&mut scheduler, now + AGEING), [2]);
    scheduler.push(item(3, Priority::Critical), now + 3 * AGEING).unwrap();
    assert_eq!(run(&mut scheduler, now + 3 * AGEING), [1], "after three steps of age the low one counts as critical, and is older");
}

#[test]
fn full_means_full() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(Config { queue: 2, ..Config::default() });
    scheduler.push(item(1, Priority::Low), now).unwrap();
    scheduler.push(item(2, Priority::Low), now).unwrap();
    assert_eq!(scheduler.push(item(3, Priority::Critical), now).unwrap_err().id, 3);
}

proptest! {
    /// Whatever is pushed: every item comes out once, expired ones unrun, batches of one kind and within their limits, and within
    /// a priority first come, first served.
    #[test]
    fn every_item_comes_out_once(
        kinds in prop::collection::vec((0u8..4, 0usize..2, prop::bool::ANY, prop::bool::ANY), 1..60),
        max_batch in 1usize..9,
    ) {
        let now = Instant::now();
        let mut scheduler = Scheduler::new(Config { max_batch, ..Config::default() });
        let levels = [Priority::Critical, Priority::High, Priority::Normal, Priority::Low];
        for (id, &(level, columns, single, expired)) in kinds.iter().enumerate() {
            let deadline = if expired { now } else { now + Duration::from_secs(60) };
            let model = model(if single { "single" } else { "m" });
            scheduler.push(Item { id: id as u64, model, columns, priority: levels[usize::from(level)], deadline }, now).unwrap();
        }
        let mut dropped = Vec::new();
        let mut ran: Vec<Item> = Vec::new();
        while let Next::Run(batch) = scheduler.next(now, &mut dropped) {
            prop_assert!(batch.len() <= max_batch.min(batch.first().map_or(1, Schedulable::max_batch)));
            prop_assert!(batch.windows(2).all(|pair| pair[0].batch_key() == pair[1].batch_key()));
            ran.extend(batch);
        }
        prop_assert!(scheduler.is_empty());
        prop_assert!(ran.iter().all(|item| !item.is_settled(now)) && dropped.iter().all(|item| item.is_settled(now)));
        for pair in ran.iter().enumerate().flat_map(|(n, a)| ran[n + 1..].iter().map(move |b| (a, b))) {
            if pair.0.batch_key() == pair.1.batch_key() && pair.0.priority == pair.1.priority {
                prop_assert!(pair.0.id < pair.1.id);
            }
        }
        let mut ids: Vec<_> = ran.iter().chain(&dropped).map(|item| item.id).collect();
        ids.sort_unstable();
        prop_assert_eq!(ids, (0..kinds.len() as u64).collect::<Vec<_>>());
    }
}
