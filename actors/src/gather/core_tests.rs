//! The sessions against a plain reference.

use proptest::prelude::*;

use super::super::rules::{Needs, Receivers};
use super::*;

const WINDOW: u64 = 10;
const REMEMBER: u64 = 25;

fn rules(receivers: Receivers) -> Arc<GatherRules> {
    let window = Duration::from_millis(WINDOW);
    Arc::new(GatherRules { receivers, window, min_receivers: 1, needs: Needs::default() })
}

fn key(id: usize) -> SessionKey {
    SessionKey { model: "m".into(), id: id.to_string().into() }
}

/// A frame: which session, of which source, how long after the one before, and the size it states.
#[derive(Debug, Clone)]
struct Event {
    session: usize,
    source: usize,
    after: u64,
    size: Option<usize>,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = (0..4usize, 0..5usize, 0..6u64, prop::option::weighted(0.3, 1..4usize))
        .prop_map(|(session, source, after, size)| Event { session, source, after, size });
    prop::collection::vec(event, 0..60)
}

/// How frame `n` ends: in a session with these others, or refused.
#[derive(Debug, Clone, PartialEq)]
enum End {
    With(Vec<usize>),
    Refused(&'static str),
    Open,
}

fn reason(why: NotJoined) -> &'static str {
    match why {
        NotJoined::Closed => "closed",
        NotJoined::Repeated => "repeated",
        NotJoined::OtherSize { .. } | NotJoined::TooSmall { .. } => "other size",
        NotJoined::TooMany => "too many",
    }
}

/// The rule in other words, by looking back over all frames for each one: no index, no order of ends.
fn expected(events: &[Event], slots: usize, most: usize) -> Vec<End> {
    struct Session {
        id: usize,
        opened: u64,
        closed: Option<u64>,
        size: Option<usize>,
        frames: Vec<usize>,
    }
    let mut sessions: Vec<Session> = Vec::new();
    let mut ends = vec![End::Open; events.len()];
    let mut now = 0;
    for (n, event) in events.iter().enumerate() {
        now += event.after;
        for session in sessions.iter_mut().filter(|it| it.closed.is_none() && it.opened + WINDOW <= now) {
            session.closed = Some(session.opened + WINDOW);
        }
        let open = sessions.iter().filter(|it| it.closed.is_none()).count();
        let last = sessions.iter_mut().rev().find(|it| it.id == event.session);
        match last {
            Some(session) if session.closed.is_none() => {
                if session.frames.iter().any(|&other| events[other].source == event.source) {
                    ends[n] = End::Refused("repeated");
                } else if event.size.is_some_and(|size| {
                    session.size.is_some_and(|before| before != size) || size <= session.frames.len()
                }) {
                    ends[n] = End::Refused("other size");
                } else {
                    session.size = session.size.or(event.size);
                    session.frames.push(n);
                    if session.frames.len() >= session.size.unwrap_or(slots).min(slots) {
                        session.closed = Some(now);
                    }
                }
            }
            Some(session) if session.closed.is_some_and(|closed| now < closed + REMEMBER) => {
                ends[n] = End::Refused("closed");
            }
            _ if open >= most => ends[n] = End::Refused("too many"),
            _ => {
                let is_alone = event.size.unwrap_or(slots).min(slots) <= 1;
                sessions.push(Session {
                    id: event.session,
                    opened: now,
                    closed: is_alone.then_some(now),
                    size: event.size,
                    frames: vec![n],
                });
            }
        }
    }
    for session in sessions.iter().filter(|it| it.closed.is_some() || it.opened + WINDOW <= now + WINDOW) {
        for &n in &session.frames {
            ends[n] = End::With(session.frames.clone());
        }
    }
    ends
}

proptest! {
    #[test]
    fn they_behave_like_the_reference(
        events in events(),
        slots in 1..5usize,
        most in 1..4usize,
        listed in any::<bool>(),
        looks in prop::collection::vec(0..8u64, 60),
    ) {
        let receivers = if listed {
            Receivers::Listed((0..slots).map(|n| n.to_string()).collect())
        } else {
            Receivers::Any(slots)
        };
        // A listed model's frames are of listed sources.
        let mut events = events;
        if listed {
            events.iter_mut().for_each(|event| event.source %= slots);
        }
        let rules = rules(receivers);
        let mut sessions = Sessions::new(most, Duration::from_millis(REMEMBER));
        let mut ends = vec![End::Open; events.len()];
        let finish = |closed: Vec<Closed<usize>>, ends: &mut Vec<End>| {
            for Closed { members, .. } in closed {
                let frames: Vec<usize> = members.iter().map(|(_, n)| *n).collect();
                for &n in &frames {
                    assert_eq!(ends[n], End::Open, "frame {n} ends twice");
                    ends[n] = End::With(frames.clone());
                }
            }
        };
        let start = Instant::now();
        let mut at = start;
        for (n, event) in events.iter().enumerate() {
            let before = at;
            at += Duration::from_millis(event.after);
            // When the timer looks between two arrivals changes nothing.
            let look = (before + Duration::from_millis(looks[n])).min(at);
            finish(sessions.close_ended(look), &mut ends);
            finish(sessions.close_ended(at), &mut ends);
            let (key, source) = (key(event.session), event.source.to_string());
            let arriving = Arriving { key: &key, source: &source, at, size: event.size };
            match sessions.check(arriving) {
                Ok(()) => finish(sessions.join(arriving, &rules, n).into_iter().collect(), &mut ends),
                Err(why) => ends[n] = End::Refused(reason(why)),
            }
            let (open, _) = sessions.waiting();
            prop_assert!(open <= most && sessions.next_end().is_some() == (open > 0));
        }
        finish(sessions.close_ended(at + Duration::from_millis(WINDOW)), &mut ends);
        prop_assert_eq!(sessions.waiting(), (0, 0));
        prop_assert_eq!(ends, expected(&events, slots, most));
    }
}

#[test]
fn what_is_remembered_is_bounded() {
    let rules = rules(Receivers::Any(1));
    let mut sessions = Sessions::new(2, Duration::from_secs(3600));
    let at = Instant::now();
    for n in 0..1000 {
        let key = key(n);
        let arriving = Arriving { key: &key, source: "a", at, size: None };
        assert_eq!(sessions.check(arriving), Ok(()));
        assert!(sessions.join(arriving, &rules, n).is_some_and(|closed| closed.is_complete));
    }
    assert_eq!((sessions.closed.len(), sessions.closed_at.len()), (128, 128));
    let check = |id| sessions.check(Arriving { key: &key(id), source: "b", at, size: None });
    assert_eq!((check(999), check(0)), (Err(NotJoined::Closed), Ok(())));
}
