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

impl ModelState {
    /// Checks what somebody may have written by hand.
    ///
    /// # Errors
    /// What is wrong, with what is allowed.
    pub fn check(&self) -> Result<(), String> {
        self.split.as_ref().map_or(Ok(()), KeptSplit::check)?;
        let Some(KeptShadow { version, share }) = &self.shadow else { return Ok(()) };
        if !(*share > 0.0 && *share <= 1.0) {
            return Err(format!("`share` of the shadow is {share}, must be above 0 and at most 1"));
        }
        if self.roles.active.as_ref() == Some(version) {
            return Err(format!("version {version} is active: a shadow is another version"));
        }
        Ok(())
    }
}

/// What this daemon does with a model, and how often somebody has asked for a change of it here.
#[derive(Debug, Clone, PartialEq)]
pub struct Here {
    pub state: ModelState,
    pub decisions: u64,
}

/// Two states of every model that are brought together: what this daemon does, and what the store says.
#[derive(Debug, Default)]
pub struct Merge {
    /// What both agreed on last.
    agreed: Document,
    /// What is to be done here, with how often somebody had asked for a change here when it came.
    wanted: BTreeMap<String, (ModelState, u64)>,
}

impl Merge {
    /// Takes what the store says now. What it has lost is written again.
    pub fn read(&mut self, stored: Document, here: &BTreeMap<String, Here>) {
        self.agreed.retain(|model, _| stored.contains_key(model));
        self.wanted.retain(|model, _| stored.contains_key(model));
        for (model, state) in stored {
            let known = self.wanted.get(&model).map(|(wanted, _)| wanted).or(self.agreed.get(&model));
            if known == Some(&state) {
                continue;
            }
            let is_so = here.get(&model).is_some_and(|here| here.state == state);
            if is_so {
                self.wanted.remove(&model);
                self.agreed.insert(model, state);
            } else {
                let decisions = here.get(&model).map_or(0, |here| here.decisions);
                self.wanted.insert(model, (state, decisions));
            }
        }
    }

    /// What is still to be done here. Where somebody has asked for another change here since it came, that
    /// holds; what happens by itself does not.
    pub fn wanted(&mut self, here: &BTreeMap<String, Here>) -> Vec<(String, ModelState)> {
        let (agreed, wanted) = (&mut self.agreed, &mut self.wanted);
        wanted.retain(|model, (state, decisions)| {
            let is_undecided = here.get(model).map_or(0, |here| here.decisions) == *decisions;
            if !is_undecided {
                agreed.insert(model.clone(), state.clone());
            }
            is_undecided
        });
        wanted.iter().map(|(model, (state, _))| (model.clone(), state.clone())).collect()
    }

    /// It is done, as far as it can be.
    pub fn done(&mut self, model: &str) {
        if let Some((state, _)) = self.wanted.remove(model) {
            self.agreed.insert(model.to_owned(), state);
        }
    }

    /// What the store is to say, where that is not what it says; `None`: nothing is new here.
    pub fn to_write(&self, here: &BTreeMap<String, Here>) -> Option<Document> {
        let is_new = |(model, here): &(&String, &Here)| {
            !self.wanted.contains_key(*model) && self.agreed.get(*model) != Some(&here.state)
        };
        let news: Vec<_> = here.iter().filter(is_new).collect();
        if news.is_empty() {
            return None;
        }
        let mut document = self.agreed.clone();
        let wanted = self.wanted.iter().map(|(model, (state, _))| (model.clone(), state.clone()));
        document.extend(wanted);
        document.extend(news.into_iter().map(|(model, here)| (model.clone(), here.state.clone())));
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
        let roles = Roles { active: Some(version.to_owned()), previous: None };
        ModelState { roles, ..ModelState::default() }
    }

    fn of(version: &str) -> Document {
        Document::from([("m".to_owned(), active(version))])
    }

    fn here(version: &str, decisions: u64) -> BTreeMap<String, Here> {
        BTreeMap::from([("m".to_owned(), Here { state: active(version), decisions })])
    }

    #[test]
    fn what_the_store_says_is_done_here_and_a_change_here_is_written() {
        let mut merge = Merge::default();
        merge.read(of("1"), &here("2", 0));
        assert_eq!(merge.wanted(&here("2", 0)), [("m".to_owned(), active("1"))]);
        assert_eq!(merge.to_write(&here("2", 0)), None, "the store has the last word at the start");
        merge.done("m");
        assert_eq!((merge.wanted(&here("1", 0)).len(), merge.to_write(&here("1", 0))), (0, None));
        let change = merge.to_write(&here("3", 1)).unwrap();
        assert_eq!(change, of("3"));
        merge.written(change);
        merge.read(of("3"), &here("3", 1));
        assert_eq!((merge.wanted(&here("3", 1)).len(), merge.to_write(&here("3", 1))), (0, None));
    }

    #[test]
    fn what_cannot_be_done_yet_stays_wanted_until_somebody_decides_otherwise_here() {
        let mut merge = Merge::default();
        merge.read(of("9"), &here("1", 4));
        for _ in 0..3 {
            merge.read(of("9"), &here("1", 4));
            assert_eq!(merge.wanted(&here("1", 4)).len(), 1);
        }
        // By itself, as at the end of a step.
        assert_eq!((merge.wanted(&here("2", 4)).len(), merge.to_write(&here("2", 4))), (1, None));
        assert_eq!(merge.wanted(&here("3", 5)).len(), 0);
        assert_eq!(merge.to_write(&here("3", 5)), Some(of("3")));
    }

    #[test]
    fn other_models_of_the_store_are_kept_and_what_it_has_lost_is_written_again() {
        let mut merge = Merge::default();
        let stored = Document::from([("other".to_owned(), active("7"))]);
        merge.read(stored.clone(), &here("1", 0));
        let mut both = stored;
        both.extend(of("1"));
        assert_eq!(merge.to_write(&here("1", 0)), Some(both.clone()));
        merge.written(both);
        assert_eq!(merge.to_write(&here("1", 0)), None);
        merge.read(Document::new(), &here("1", 0));
        assert_eq!(merge.to_write(&here("1", 0)), Some(of("1")));
    }

    #[test]
    fn a_document_is_read_as_it_was_written() {
        let text = serde_json::to_string(&of("1")).unwrap();
        assert_eq!(serde_json::from_str::<Document>(&text).unwrap(), of("1"));
        let less = serde_json::from_str::<Document>(r#"{"m": {"active": "1"}}"#).unwrap();
        assert_eq!(less, of("1"));
    }
}
