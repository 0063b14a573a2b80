//! Which versions of a model stay in memory: plain and synchronous.

use sferic_onnx::Versions;

/// The loaded versions of a model, by rising number, and those with a role.
#[derive(Debug)]
pub struct InMemory<'a> {
    loaded: Vec<&'a str>,
    active: Option<&'a str>,
    previous: Option<&'a str>,
    /// What frames without a model get, whatever is active.
    pinned: Option<&'a str>,
    /// What a split divides, and shadows.
    in_traffic: Vec<&'a str>,
}

/// As many are loaded as may be, and each has a role.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

impl<'a> InMemory<'a> {
    /// Those of a model, of which one may be pinned, and some get frames beside the active one.
    pub fn of(versions: &'a Versions, pinned: Option<&'a str>, is_in_traffic: impl Fn(&str) -> bool) -> Self {
        let loaded: Vec<_> = versions.ready().map(|model| model.id().version.as_str()).collect();
        let in_traffic = loaded.iter().copied().filter(|version| is_in_traffic(version)).collect();
        let (active, previous) = (versions.active.as_deref(), versions.previous.as_deref());
        Self { loaded, active, previous, pinned, in_traffic }
    }

    /// The version that goes where `version` is loaded and at most `most` may be: the lowest without a role.
    ///
    /// # Errors
    /// [`Full`].
    pub fn displaced_by(&self, version: &str, most: usize) -> Result<Option<String>, Full> {
        if self.loaded.len() < most || self.loaded.contains(&version) {
            return Ok(None);
        }
        let lowest = self.loaded.iter().find(|loaded| self.rank(loaded) == 2);
        lowest.map(|lowest| Some((*lowest).to_owned())).ok_or(Full)
    }

    /// The versions that go after a switch, where `keep` stay: the active one, the pinned one and those that
    /// get frames beside it in any case, the previous one, then the highest.
    pub fn beyond(&self, keep: usize) -> Vec<String> {
        let mut kept: Vec<_> = self.loaded.iter().rev().collect();
        // Stable.
        kept.sort_by_key(|version| self.rank(version));
        let fixed = kept.iter().filter(|version| self.rank(version) == 0).count();
        kept.into_iter().skip(keep.max(fixed)).map(|version| (*version).to_owned()).collect()
    }

    fn rank(&self, version: &str) -> u8 {
        let is = |role: Option<&str>| role == Some(version);
        let is_fixed = is(self.active) || is(self.pinned) || self.in_traffic.contains(&version);
        if is_fixed { 0 } else { 2 - u8::from(is(self.previous)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_with_a_role_is_the_last_to_go() {
        let (active, previous) = (Some("2"), Some("1"));
        let of = |loaded| InMemory { loaded, active, previous, pinned: None, in_traffic: Vec::new() };
        let four = of(vec!["1", "2", "9", "10"]);
        assert_eq!(four.displaced_by("11", 4), Ok(Some("9".into())));
        assert_eq!((four.displaced_by("11", 5), four.displaced_by("9", 4)), (Ok(None), Ok(None)));
        assert_eq!(four.beyond(2), ["10", "9"]);
        assert_eq!((four.beyond(3), four.beyond(4).len()), (vec!["9".to_owned()], 0));
        assert_eq!(four.beyond(0), ["1", "10", "9"], "the active one stays");
        let two = of(vec!["1", "2"]);
        assert_eq!(two.displaced_by("3", 2), Err(Full));
        let pinned = InMemory { pinned: Some("9"), ..of(vec!["1", "2", "9", "10"]) };
        let canary = InMemory { in_traffic: vec!["9"], ..four };
        for kept in [pinned, canary] {
            assert_eq!(
                (kept.displaced_by("11", 4), kept.beyond(1)),
                (Ok(Some("10".into())), vec!["1".into(), "10".into()])
            );
        }
    }
}
