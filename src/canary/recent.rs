//! The latest answers, for truths that come after them.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use sferic_actors::account::trail::Assignment;
use sferic_actors::frame::ModelId;
use sferic_actors::outcome::Answer;

/// Answers that are kept.
const ANSWERS: NonZeroUsize = NonZeroUsize::new(20_000).unwrap();

/// Sessions that are kept.
const SESSIONS: NonZeroUsize = NonZeroUsize::new(2_000).unwrap();

/// The latest answers of one session, which a truth is applied to.
const OF_A_SESSION: usize = 64;

/// An answer and whose it was.
#[derive(Debug, Clone)]
pub struct RecentAnswer {
    pub answer: Arc<Answer>,
    pub model: Arc<ModelId>,
    /// Where a split divided.
    pub split: Option<Assignment>,
    /// What the shadow has answered to the same frame, and whose that is.
    pub shadow: Option<(Arc<Answer>, Arc<ModelId>)>,
    /// Its session as a number, where it has one.
    pub session: Option<u64>,
}

/// What a truth is about.
#[derive(Debug, PartialEq)]
pub enum Subject {
    /// A frame of the source, by its id.
    Frame(String),
    /// A session.
    Session(String),
}

/// Answers by frame, and the frames of sessions.
#[derive(Debug)]
pub struct Recent {
    frames: LruCache<(String, String), RecentAnswer>,
    sessions: LruCache<u64, Vec<(String, String)>>,
    numbers: RandomState,
}

impl Default for Recent {
    fn default() -> Self {
        Self {
            frames: LruCache::new(ANSWERS),
            sessions: LruCache::new(SESSIONS),
            numbers: RandomState::new(),
        }
    }
}

impl Recent {
    /// Keeps an answer.
    pub fn add(&mut self, source: &str, frame_id: &str, session: Option<&str>, mut answer: RecentAnswer) {
        answer.session = session.map(|session| self.numbers.hash_one(session));
        let key = (source.to_owned(), frame_id.to_owned());
        if let Some(session) = answer.session {
            let frames = self.sessions.get_or_insert_mut(session, Vec::new);
            if frames.len() == OF_A_SESSION {
                frames.remove(0);
            }
            frames.push(key.clone());
        }
        self.frames.put(key, answer);
    }

    /// Adds what a shadow has answered to a frame that is still kept.
    pub fn add_shadow(&mut self, source: &str, frame_id: &str, answer: Arc<Answer>, model: Arc<ModelId>) {
        if let Some(recent) = self.frames.peek_mut(&(source.to_owned(), frame_id.to_owned())) {
            recent.shadow = Some((answer, model));
        }
    }

    /// Takes the answers that a truth is about: a further one counts for nothing.
    pub fn take(&mut self, source: &str, of: &Subject) -> Vec<RecentAnswer> {
        let keys = match of {
            Subject::Frame(frame) => vec![(source.to_owned(), frame.clone())],
            Subject::Session(session) => {
                self.sessions.pop(&self.numbers.hash_one(session.as_str())).unwrap_or_default()
            }
        };
        keys.into_iter().filter_map(|key| self.frames.pop(&key)).collect()
    }
}
