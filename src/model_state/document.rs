//! What is kept of the models: plain, and as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::canary::{KeptShadow, KeptSplit};
use crate::models::{Followed, Roles};

/// Of every model, by its name.
pub type Document = BTreeMap<String, ModelState>;

/// What is kept of a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelState {
    /// Which versions have a role.
    #[serde(flatten)]
    pub roles: Roles,
    /// The split in force.
    pub split: Option<KeptSplit>,
    /// The shadow.
    pub shadow: Option<KeptShadow>,
    /// What a registry last said should serve.
    pub followed: Option<Followed>,
}

/// Two states of every model that are brought together: what this daemon does, and what the store says.
#[derive(Debug, Default)]
pub struct Merge {
    /// What both agreed on last.
    agreed: Document,
    /// What is to be done here, with what was done when that came.
    wanted: BTreeMap<String, (ModelState, Option<ModelState>)>,
}

impl Merge {
    /// Takes what the store says now.
    pub fn read(&mut self, stored: Document, here: &Document) {
        for (model, state) in stored {
            let known = self.wanted.get(&model).map(|(wanted, _)| wanted).or(self.agreed.get(&model));
            if known == Some(&state) {
                continue;
            }
            if here.get(&model) == Some(&state) {
                self.wanted.remove(&model);
                self.agreed.insert(model, state);
            } else {
                let now = here.get(&model).cloned();
                self.wanted.insert(model, (state, now));
            }
        }
    }

    /// What is still to be done here. What somebody has changed here since it came is not: the change holds.
    pub fn wanted(&mut self, here: &Document) -> Vec<(String, ModelState)> {
        let (agreed, wanted) = (&mut self.agreed, &mut self.wanted);
        wanted.retain(|model, (state, then)| {
            let is_as_then = here.get(model) == then.as_ref();
            if !is_as_then {
                agreed.insert(model.clone(), state.clone());
            }
            is_as_then
        });
        wanted.iter().map(|(model, (state, _))| (model.clone(), state.clone())).collect()
    }

    /// It could not be done, and is to be tried again.
    pub fn put_off(&mut self, model: &str, here: &Document) {
        if let Some((_, then)) = self.wanted.get_mut(model) {
            // A part of it may be done.
            *then = here.get(model).cloned();
        }
    }

    /// It is done, as far as it can be.
    pub fn done(&mut self, model: &str) {
        if let Some((state, _)) = self.wanted.remove(model) {
            self.agreed.insert(model.to_owned(), state);
        }
    }

    /// What the store is to say, where that is not what it says; `None`: nothing is new here.
    pub fn to_write(&self, here: &Document) -> Option<Document> {
        let is_new = |(model, state): &(&String, &ModelState)| {
            !self.wanted.contains_key(*model) && self.agreed.get(*model) != Some(*state)
        };
        let news: Vec<_> = here.iter().filter(is_new).collect();
        if news.is_empty() {
            return None;
        }
        let mut document = self.agreed.clone();
        let wanted = self.wanted.iter().map(|(model, (state, _))| (model.clone(), state.clone()));
        document.extend(wanted);
        document.extend(news.into_iter().map(|(model, state)| (model.clone(), state.clone())));
        Some(document)
    }

    /// It was written.
    pub fn written(&mut self, document: Document) {
        let wanted = &self.wanted;
        self.agreed.extend(document.into_iter().filter(|(model, _)| !wanted.contains_key(model)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn active(version: &str) -> ModelState {
        ModelState {
            roles: Roles { active: Some(version.to_owned()), previous: None },
            ..ModelState::default()
        }
    }

    fn of(version: &str) -> Document {
        Document::from([("m".to_owned(), active(version))])
    }

    #[test]
    fn what_the_store_says_is_done_here_and_a_change_here_is_written() {
        let mut merge = Merge::default();
        merge.read(of("1"), &of("2"));
        assert_eq!(merge.wanted(&of("2")), [("m".to_owned(), active("1"))]);
        assert_eq!(merge.to_write(&of("2")), None, "the store has the last word at the start");
        merge.done("m");
        assert_eq!((merge.wanted(&of("1")).len(), merge.to_write(&of("1"))), (0, None));
        let change = merge.to_write(&of("3")).unwrap();
        assert_eq!(change, of("3"));
        merge.written(change);
        merge.read(of("3"), &of("3"));
        assert_eq!((merge.wanted(&of("3")).len(), merge.to_write(&of("3"))), (0, None));
    }

    #[test]
    fn what_cannot_be_done_yet_stays_wanted_until_somebody_decides_otherwise_here() {
        let mut merge = Merge::default();
        merge.read(of("9"), &of("1"));
        for _ in 0..3 {
            merge.read(of("9"), &of("1"));
            assert_eq!(merge.wanted(&of("1")).len(), 1);
        }
        assert_eq!(merge.wanted(&of("2")).len(), 0);
        assert_eq!(merge.to_write(&of("2")), Some(of("2")));
    }

    #[test]
    fn other_models_of_the_store_are_kept() {
        let mut merge = Merge::default();
        let (here, mut stored) = (of("1"), Document::from([("other".to_owned(), active("7"))]));
        merge.read(stored.clone(), &here);
        stored.extend(here.clone());
        assert_eq!(merge.to_write(&here), Some(stored));
    }

    #[test]
    fn a_document_is_read_as_it_was_written() {
        let text = serde_json::to_string(&of("1")).unwrap();
        assert_eq!(serde_json::from_str::<Document>(&text).unwrap(), of("1"));
        let less = serde_json::from_str::<Document>(r#"{"m": {"active": "1"}}"#).unwrap();
        assert_eq!(less, of("1"));
    }
}
