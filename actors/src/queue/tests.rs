use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::rank::AGEING;
use super::scheduler::HEADROOM;
use super::*;
use crate::frame::{ModelId, Priority};

#[derive(Debug, Clone, PartialEq)]
struct Item {
    id: u64,
    model: Arc<ModelId>,
    columns: usize,
    priority: Priority,
    deadline: Instant,
    arrived_at: Instant,
}

impl Item {
    /// Its session time.
    fn cost(&self) -> Duration {
        Duration::from_millis(self.id % 7)
    }
}

impl Schedulable for Item {
    fn can_share_run(&self, other: &Self) -> bool {
        (&self.model, self.columns) == (&other.model, other.columns)
    }
    fn max_batch(&self) -> usize {
        if self.model.name == "single" { 1 } else { usize::MAX }
    }
    fn priority(&self) -> Priority {
        self.priority
    }
    fn arrived_at(&self) -> Instant {
        self.arrived_at
    }
    fn is_settled(&self, now: Instant) -> bool {
        now >= self.deadline
    }
}

fn model(name: &str) -> Arc<ModelId> {
    Arc::new(ModelId { name: name.into(), version: "1".into(), ..ModelId::default() })
}

fn item(id: u64, priority: Priority) -> Item {
    let now = Instant::now();
    Item {
        id,
        model: model("m"),
        columns: 1,
        priority,
        deadline: now + Duration::from_secs(3600),
        arrived_at: now,
    }
}

fn run(scheduler: &mut Scheduler<Item>, now: Instant) -> Vec<u64> {
    match scheduler.next(now, &mut Vec::new()) {
        Next::Run(batch) => batch.into_iter().map(|item| item.id).collect(),
        Next::WaitUntil(_) | Next::Idle => Vec::new(),
    }
}

#[test]
fn a_single_frame_runs_at_once_unless_a_delay_is_configured() {
    let now = Instant::now();
    let mut eager = Scheduler::new(Config::default());
    eager.push(item(1, Priority::Normal), Duration::ZERO, now).unwrap();
    assert_eq!(run(&mut eager, now), [1]);

    let delay = Duration::from_millis(5);
    let mut patient = Scheduler::new(Config { max_batch_delay: delay, max_batch: 2, ..Config::default() });
    patient.push(item(1, Priority::Normal), Duration::ZERO, now).unwrap();
    assert!(matches!(patient.next(now, &mut Vec::new()), Next::WaitUntil(then) if then == now + delay));
    assert_eq!(run(&mut patient, now + delay), [1]);
    patient.push(item(2, Priority::Normal), Duration::ZERO, now).unwrap();
    patient.push(item(3, Priority::Normal), Duration::ZERO, now).unwrap();
    assert_eq!(run(&mut patient, now), [2, 3], "a full batch does not wait");
}

#[test]
fn urgent_frames_go_first_but_none_starves() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(Config { max_batch: 1, ..Config::default() });
    scheduler.push(item(1, Priority::Low), Duration::ZERO, now).unwrap();
    scheduler.push(item(2, Priority::Critical), Duration::ZERO, now + AGEING).unwrap();
    assert_eq!(run(&mut scheduler, now + AGEING), [2]);
    scheduler.push(item(3, Priority::Critical), Duration::ZERO, now + 3 * AGEING).unwrap();
    assert_eq!(
        run(&mut scheduler, now + 3 * AGEING),
        [1],
        "after three steps of age the low one counts as critical, and is older"
    );
}

#[test]
fn an_item_that_would_miss_its_deadline_is_refused() {
    let now = Instant::now();
    let ms = Duration::from_millis;
    let mut scheduler = Scheduler::new(Config::default());
    let check = |scheduler: &Scheduler<Item>, priority, budget, load| {
        scheduler.check(priority, now + budget, ms(10), load, now)
    };
    let idle = Load { sessions: 2, busy: 1, left: ms(1000) };
    assert_eq!(
        check(&scheduler, Priority::Normal, ms(1), idle),
        Ok(()),
        "begun at once: only a run updates the measurement"
    );
    let busy = Load { sessions: 2, busy: 2, left: ms(30) };
    // Half of the remaining time, a tenth more, and its own ten.
    assert_eq!(check(&scheduler, Priority::Normal, ms(27), busy), Ok(()));
    let too_late = |after_us, budget, ahead| {
        Err(NotQueued::TooLate { after: Duration::from_micros(after_us), budget: ms(budget), ahead })
    };
    assert_eq!(check(&scheduler, Priority::Normal, ms(26), busy), too_late(26_500, 26, 0));
    for id in 0..4 {
        scheduler.push(item(id, Priority::Normal), ms(10), now).unwrap();
    }
    assert_eq!(check(&scheduler, Priority::Low, ms(48), busy), too_late(48_500, 48, 4));
    assert_eq!(
        check(&scheduler, Priority::High, ms(27), busy),
        Ok(()),
        "less urgent items do not run before it"
    );
}

#[test]
fn the_oldest_of_the_lowest_priority_is_shed_for_one_not_below_it() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(Config { queue: 4, shed_oldest: true, ..Config::default() });
    for (id, priority) in [(1, Priority::High), (2, Priority::Low), (3, Priority::Normal), (4, Priority::Low)]
    {
        assert_eq!(scheduler.push(item(id, priority), Duration::ZERO, now).unwrap(), None);
    }
    let mut push = |id, priority| {
        scheduler.push(item(id, priority), Duration::ZERO, now).map(|item| item.map(|item| item.id))
    };
    assert_eq!(push(5, Priority::Low).unwrap(), Some(2));
    assert_eq!(push(6, Priority::Critical).unwrap(), Some(4));
    assert_eq!(push(7, Priority::Critical).unwrap(), Some(5));
    assert_eq!(push(8, Priority::Low).unwrap_err().id, 8, "none as low is left");
    assert_eq!(push(9, Priority::Normal).unwrap(), Some(3));
    assert_eq!(push(10, Priority::High).unwrap(), Some(9));
}

#[test]
fn a_full_queue_refuses() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(Config { queue: 2, ..Config::default() });
    scheduler.push(item(1, Priority::Low), Duration::ZERO, now).unwrap();
    scheduler.push(item(2, Priority::Low), Duration::ZERO, now).unwrap();
    assert_eq!(scheduler.push(item(3, Priority::Critical), Duration::ZERO, now).unwrap_err().id, 3);
}

proptest! {
    /// In any sequence: every item comes out once, expired ones unrun, in batches of one key and within their
    /// limits, and within a priority first come, first served.
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
            let priority = levels[usize::from(level)];
            let item = Item { id: id as u64, model, columns, priority, deadline, arrived_at: now };
            scheduler.push(item, Duration::ZERO, now).unwrap();
        }
        let mut dropped = Vec::new();
        let mut ran: Vec<Item> = Vec::new();
        while let Next::Run(batch) = scheduler.next(now, &mut dropped) {
            prop_assert!(batch.len() <= max_batch.min(batch.first().map_or(1, Schedulable::max_batch)));
            prop_assert!(batch.windows(2).all(|pair| pair[0].can_share_run(&pair[1])));
            ran.extend(batch);
        }
        prop_assert!(scheduler.is_empty());
        prop_assert!(ran.iter().all(|item| !item.is_settled(now)));
        prop_assert!(dropped.iter().all(|item| item.is_settled(now)));
        for pair in ran.iter().enumerate().flat_map(|(n, a)| ran[n + 1..].iter().map(move |b| (a, b))) {
            if pair.0.can_share_run(pair.1) && pair.0.priority == pair.1.priority {
                prop_assert!(pair.0.id < pair.1.id);
            }
        }
        let mut ids: Vec<_> = ran.iter().chain(&dropped).map(|item| item.id).collect();
        ids.sort_unstable();
        prop_assert_eq!(ids, (0..kinds.len() as u64).collect::<Vec<_>>());
    }
}

/// Reference implementation: one list in order of arrival, searched each time.
#[derive(Default)]
struct Reference(Vec<(Item, Instant)>);

impl Reference {
    fn rank(item: &Item, since: Instant, now: Instant) -> (u128, Instant, u8) {
        let steps = (now - since).as_millis() / AGEING.as_millis();
        ((item.priority as u128).saturating_sub(steps), since, item.priority as u8)
    }

    /// The first item of each priority, in the order of service.
    fn heads(&self, now: Instant) -> Vec<Item> {
        let mut heads: Vec<&(Item, Instant)> = Vec::new();
        for entry in &self.0 {
            if heads.iter().all(|head| head.0.priority != entry.0.priority) {
                heads.push(entry);
            }
        }
        heads.sort_by_key(|(item, since)| Self::rank(item, *since, now));
        heads.into_iter().map(|(item, _)| item.clone()).collect()
    }

    fn remove(&mut self, id: u64) {
        self.0.retain(|(item, _)| item.id != id);
    }

    /// The ids that run, and those that are dropped.
    fn next(&mut self, max_batch: usize, now: Instant) -> (Vec<u64>, Vec<u64>) {
        let (mut batch, mut dropped) = (Vec::new(), Vec::new());
        while let Some(head) = self.heads(now).into_iter().next() {
            if !head.is_settled(now) {
                let limit = max_batch.min(head.max_batch());
                for level in self.heads(now).iter().map(|head| head.priority) {
                    let fitting = |item: &Item| item.priority == level && item.can_share_run(&head);
                    for item in
                        self.0.iter().map(|(item, _)| item.clone()).filter(fitting).collect::<Vec<_>>()
                    {
                        if batch.len() < limit {
                            self.remove(item.id);
                            if item.is_settled(now) { dropped.push(item.id) } else { batch.push(item.id) }
                        }
                    }
                }
                break;
            }
            self.remove(head.id);
            dropped.push(head.id);
        }
        (batch, dropped)
    }

    /// Number and session time of the items that run before an arriving one of this priority.
    fn before(&self, priority: Priority, now: Instant) -> (usize, Duration) {
        let goes_before = |(item, since): &&(Item, Instant)| {
            Self::rank(item, *since, now) <= (priority as u128, now, priority as u8)
        };
        let costs = self.0.iter().filter(goes_before).map(|(item, _)| item.cost());
        (costs.clone().count(), costs.sum())
    }

    fn take_overdue(&mut self, timeout: Duration, now: Instant) -> Vec<u64> {
        let overdue: Vec<u64> =
            self.0.iter().filter(|(_, since)| now >= *since + timeout).map(|(item, _)| item.id).collect();
        overdue.iter().for_each(|&id| self.remove(id));
        overdue
    }

    fn shed(&mut self, priority: Priority) -> Option<u64> {
        let lowest = self.0.iter().map(|(item, _)| item.priority).filter(|&level| level >= priority).max()?;
        let id = self
            .0
            .iter()
            .filter(|(item, _)| item.priority == lowest)
            .min_by_key(|(item, _)| item.arrived_at)?
            .0
            .id;
        self.remove(id);
        Some(id)
    }
}

#[derive(Debug, Clone)]
enum Step {
    Push { level: usize, columns: usize, single: bool, budget_ms: u64, took_ms: u64 },
    Next,
    TakeOverdue,
    Shed { level: usize },
    Check { level: usize, budget_ms: u64, busy: usize },
    Wait { ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0usize..4, 0usize..2, prop::bool::ANY, 0u64..2000, 0u64..50)
            .prop_map(|(level, columns, single, budget_ms, took_ms)| {
                Step::Push { level, columns, single, budget_ms, took_ms }
            }),
        3 => Just(Step::Next),
        1 => Just(Step::TakeOverdue),
        1 => (0usize..4).prop_map(|level| Step::Shed { level }),
        2 => (0usize..4, 0u64..60, 0usize..3)
            .prop_map(|(level, budget_ms, busy)| Step::Check { level, budget_ms, busy }),
        3 => (1u64..400).prop_map(|ms| Step::Wait { ms }),
    ]
}

proptest! {
    /// The scheduler behaves like the reference, step by step.
    #[test]
    fn it_behaves_like_the_reference(
        steps in prop::collection::vec(step(), 1..120),
        max_batch in 1usize..6,
        queue in 1usize..20,
        shed_oldest in prop::bool::ANY,
    ) {
        let acquire_timeout = Duration::from_millis(900);
        let config = Config { max_batch, queue, shed_oldest, acquire_timeout, ..Config::default() };
        let mut scheduler = Scheduler::new(config.clone());
        let mut reference = Reference::default();
        let levels = [Priority::Critical, Priority::High, Priority::Normal, Priority::Low];
        // Far enough from the clock's start for what arrived before.
        let mut now = Instant::now() + Duration::from_secs(1);
        for (id, step) in steps.into_iter().enumerate() {
            let id = id as u64;
            match step {
                Step::Push { level, columns, single, budget_ms, took_ms } => {
                    let model = model(if single { "single" } else { "m" });
                    let deadline = now + Duration::from_millis(budget_ms);
                    // The features of one frame may take longer than those of the next.
                    let arrived_at = now - Duration::from_millis(took_ms);
                    let item = Item { id, model, columns, priority: levels[level], deadline, arrived_at };
                    let shed_candidate = if reference.0.len() < queue { Ok(None) } else {
                        shed_oldest.then(|| reference.shed(levels[level])).flatten().map(Some).ok_or(id)
                    };
                    let pushed = scheduler.push(item.clone(), item.cost(), now);
                    let pushed = pushed.map(|gone| gone.map(|item| item.id)).map_err(|item| item.id);
                    prop_assert_eq!(pushed, shed_candidate);
                    if shed_candidate.is_ok() {
                        reference.0.push((item, now));
                    }
                }
                Step::Next => {
                    let mut dropped = Vec::new();
                    let ran = match scheduler.next(now, &mut dropped) {
                        Next::Run(batch) => batch.into_iter().map(|item| item.id).collect(),
                        Next::Idle => Vec::new(),
                        Next::WaitUntil(_) => return Err(TestCaseError::fail("waits without being asked to")),
                    };
                    let dropped: Vec<u64> = dropped.into_iter().map(|item| item.id).collect();
                    prop_assert_eq!((ran, dropped), reference.next(max_batch, now));
                }
                Step::TakeOverdue => {
                    let mut overdue: Vec<u64> =
                        scheduler.take_overdue(now).into_iter().map(|item| item.id).collect();
                    overdue.sort_unstable();
                    prop_assert_eq!(overdue, reference.take_overdue(config.acquire_timeout, now));
                }
                Step::Shed { level } => {
                    let shed = scheduler.shed(levels[level]).map(|item| item.id);
                    prop_assert_eq!(shed, reference.shed(levels[level]));
                }
                Step::Check { level, budget_ms, busy } => {
                    let (budget, cost) = (Duration::from_millis(budget_ms), Duration::from_millis(3));
                    let load = Load { sessions: 2, busy, left: Duration::from_millis(5) * busy as u32 };
                    let (ahead, waiting) = reference.before(levels[level], now);
                    let after = ((waiting + load.left) / 2).mul_f64(HEADROOM) + cost;
                    let in_time = ahead + busy < 2 || after <= budget;
                    let expected =
                        if in_time { Ok(()) } else { Err(NotQueued::TooLate { after, budget, ahead }) };
                    prop_assert_eq!(scheduler.check(levels[level], now + budget, cost, load, now), expected);
                }
                Step::Wait { ms } => now += Duration::from_millis(ms),
            }
            prop_assert_eq!(scheduler.len(), reference.0.len());
        }
    }
}
