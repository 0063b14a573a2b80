//! How a model gathers.

use std::time::Duration;

/// The most receivers that one model may have: the pairs of so many are 2016.
pub const MAX_RECEIVERS: usize = 64;

/// The `[gather]` table of a bundle, and what its inputs need of a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct GatherRules {
    /// Who may take part, and in which slot.
    pub receivers: Receivers,
    /// How long a session waits for its frames, from its first one.
    pub window: Duration,
    /// With fewer there is no answer.
    pub min_receivers: usize,
    /// What its inputs need of a frame.
    pub needs: Needs,
}

/// Who may take part in a session, and in which slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receivers {
    /// These sources, each in the slot of its place in the list.
    Listed(Vec<String>),
    /// Any sources, at most so many, in the order of their names.
    Any(usize),
}

/// What the inputs of a model need of a frame beside its content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// Where its receiver is.
    pub place: bool,
    /// When the signal arrived there.
    pub arrival: bool,
    /// When its first sample was taken.
    pub datetime: bool,
}

impl GatherRules {
    /// Slots of a session.
    pub fn slots(&self) -> usize {
        match &self.receivers {
            Receivers::Listed(sources) => sources.len(),
            Receivers::Any(most) => *most,
        }
    }

    /// Whether a source may take part.
    pub fn takes(&self, source: &str) -> bool {
        match &self.receivers {
            Receivers::Listed(sources) => sources.iter().any(|listed| listed == source),
            Receivers::Any(_) => true,
        }
    }

    /// The slot of each of these sources, which all may take part and are no more than there are slots.
    pub fn slots_of(&self, sources: &[&str]) -> Vec<usize> {
        let slot = |source: &&str| match &self.receivers {
            Receivers::Listed(listed) => listed.iter().position(|listed| listed == source),
            Receivers::Any(_) => Some(sources.iter().filter(|other| *other < source).count()),
        };
        sources.iter().filter_map(slot).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_list_or_in_the_order_of_the_names() {
        let mut rules = GatherRules {
            receivers: Receivers::Listed(vec!["roof".into(), "bus".into(), "mast".into()]),
            window: Duration::from_millis(500),
            min_receivers: 1,
            needs: Needs::default(),
        };
        assert!(rules.slots() == 3 && rules.takes("bus") && !rules.takes("van"));
        assert_eq!(rules.slots_of(&["mast", "roof"]), [2, 0]);
        rules.receivers = Receivers::Any(8);
        assert!(rules.slots() == 8 && rules.takes("van"));
        assert_eq!(rules.slots_of(&["mast", "roof", "bus"]), [1, 2, 0]);
    }
}
