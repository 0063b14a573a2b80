//! Which loaded version serves a frame: plain and synchronous.

use super::shadow::Shadow;
use super::split::{Sender, Split};
use crate::account::trail::Assignment;
use crate::outcome::{Failure, FailureCode};

/// Names and versions of the models in service, known by their place in the list.
///
/// Invariant: a frame that names a version is served by that version or fails; one that does not is served by
/// the version that a split gives it, or the active one of its model, or the next older healthy one that
/// accepts it.
#[derive(Debug, Clone, Default)]
pub struct Router {
    /// What a frame asks for that names no model: `name` or `name@version`.
    default: String,
    /// Sorted by name, then by rising version.
    versions: Vec<VersionName>,
    /// Places of the active versions.
    active: Vec<usize>,
    /// Versions that could not be loaded.
    refused: Vec<VersionName>,
    /// Other names of versions: places by `name@alias`.
    aliases: Vec<(VersionName, usize)>,
    splits: Vec<Split>,
    shadows: Vec<Shadow>,
}

/// Name and version of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionName {
    /// The model's name.
    pub name: String,
    /// Its version; empty where the model as a whole is meant.
    pub version: String,
}

/// The version that serves a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Route<P> {
    /// Its place in the router's list.
    pub place: usize,
    /// The permit of its circuit, or the failure that the frame gets if it has to be run.
    pub permit: Result<P, Failure>,
    /// Where a split has chosen it.
    pub split: Option<Assignment>,
    /// The place of the version that a split has chosen, but that does not take the frame.
    pub declined: Option<(usize, Assignment)>,
    /// The place of the version that gets a copy of the frame.
    pub shadow: Option<usize>,
}

impl VersionName {
    /// Whether `asked`, `name` or `name@version`, means this version.
    pub fn is(&self, asked: &str) -> bool {
        match asked.split_once('@') {
            Some((name, version)) => self.name == name && self.version == version,
            None => self.name == asked,
        }
    }
}

impl Router {
    /// A router over these versions, sorted by name, then by rising version. Where none of a model's versions
    /// is in `active`, its highest one is active.
    pub fn new(
        default: impl Into<String>,
        versions: Vec<VersionName>,
        active: &[VersionName],
        refused: Vec<VersionName>,
    ) -> Self {
        let active = (0..versions.len()).filter(|&place| active.contains(&versions[place])).collect();
        Self { default: default.into(), versions, active, refused, ..Self::default() }
    }

    /// The same with splits of traffic, of models each at most once.
    pub fn with_splits(self, splits: Vec<Split>) -> Self {
        Self { splits, ..self }
    }

    /// The same with versions that get copies, of models each at most one.
    pub fn with_shadows(self, shadows: Vec<Shadow>) -> Self {
        Self { shadows, ..self }
    }

    /// The same with other names of versions: the alias as `version`, and the version it means.
    pub fn with_aliases(self, aliases: Vec<(VersionName, String)>) -> Self {
        let place = |(alias, version): (VersionName, String)| {
            let meant = VersionName { name: alias.name.clone(), version };
            Some((alias, self.versions.iter().position(|known| *known == meant)?))
        };
        let aliases = aliases.into_iter().filter_map(place).collect();
        Self { aliases, ..self }
    }

    /// Selects the version for a frame of this sender that asks for `name`, `name@version` or `name@alias`,
    /// or for nothing. `accepts` says whether the version at a place takes the frame, `admit` whether it is
    /// healthy.
    ///
    /// # Errors
    /// There is no such version, or it does not take the frame.
    pub fn route<P>(
        &self,
        asked: Option<&str>,
        sender: Sender<'_>,
        accepts: impl Fn(usize) -> Result<(), Failure>,
        admit: impl Fn(usize) -> Result<P, Failure>,
    ) -> Result<Route<P>, Failure> {
        let asked = asked.unwrap_or(&self.default);
        let route = |place, permit, split, declined| {
            let shadow = self.shadow(asked, place, sender);
            Ok(Route { place, permit, split, declined, shadow })
        };
        let mut declined = None;
        if let Some((place, assignment)) = self.assign(asked, sender) {
            match accepts(place) {
                Err(_) => declined = Some((place, assignment)),
                Ok(()) => {
                    if let Ok(permit) = admit(place) {
                        return route(place, Ok(permit), Some(assignment), None);
                    }
                }
            }
        }
        let place = self.place_of(asked)?;
        accepts(place)?;
        let permit = admit(place);
        if permit.is_err() && !asked.contains('@') {
            let is_of_this_name = |older: &usize| self.versions[*older].name == self.versions[place].name;
            let healthy = (0..place).rev().take_while(is_of_this_name).find_map(|older| {
                let permit = accepts(older).and_then(|()| admit(older)).ok()?;
                Some((older, permit))
            });
            if let Some((older, permit)) = healthy {
                return route(older, Ok(permit), None, declined);
            }
        }
        route(place, permit, None, declined)
    }

    /// The place that a split gives a sender, where one divides what was asked for.
    fn assign(&self, asked: &str, sender: Sender<'_>) -> Option<(usize, Assignment)> {
        let split = self.splits.iter().find(|split| split.model == asked)?;
        let (version, assignment) = split.version(sender)?;
        Some((self.position(asked, version)?, assignment))
    }

    /// The place of the version that gets a copy of a frame that asked for a bare name and is served by the
    /// active version.
    fn shadow(&self, asked: &str, place: usize, sender: Sender<'_>) -> Option<usize> {
        let shadow = self.shadows.iter().find(|shadow| shadow.model == asked)?;
        let is_copied = self.active.contains(&place) && shadow.copies(sender);
        self.position(asked, &shadow.version).filter(|_| is_copied)
    }

    fn position(&self, name: &str, version: &str) -> Option<usize> {
        self.versions.iter().position(|known| known.name == name && known.version == version)
    }

    /// The place of the version that `name@version`, or of the active one that `name` stands for.
    ///
    /// # Errors
    /// `model_not_found`, with what was asked for and what there is.
    pub fn place_of(&self, asked: &str) -> Result<usize, Failure> {
        let active = self.active.iter().copied().find(|&place| self.versions[place].name == asked);
        let highest = || self.versions.iter().rposition(|version| version.is(asked));
        let alias = || self.aliases.iter().find(|(alias, _)| alias.is(asked)).map(|(_, place)| *place);
        active.or_else(highest).or_else(alias).ok_or_else(|| self.not_found(asked))
    }

    /// The place of the version that serves frames that name none.
    pub fn default_place(&self) -> Option<usize> {
        self.place_of(&self.default).ok()
    }

    fn not_found(&self, asked: &str) -> Failure {
        let is_refused = self.refused.iter().any(|version| version.is(asked));
        let refused = if is_refused { " (refused at load)" } else { "" };
        let asked: String = asked.chars().take(64).collect();
        let mut there: Vec<String> =
            self.versions.iter().map(|of| format!("{}@{}", of.name, of.version)).take(16).collect();
        match self.versions.len() - there.len() {
            0 if there.is_empty() => there.push("none".into()),
            0 => {}
            more => there.push(format!("{more} more")),
        }
        let message = format!("no model `{asked}`{refused}, loaded: {}", there.join(", "));
        Failure::new(FailureCode::ModelNotFound, message)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(name: &str, version: usize) -> VersionName {
        VersionName { name: name.into(), version: version.to_string() }
    }

    fn failure(message: &str) -> Failure {
        Failure::new(FailureCode::Internal, message)
    }

    /// One version of one of three models, and what becomes of a frame there.
    #[derive(Debug, Clone)]
    struct Case {
        name: &'static str,
        version: usize,
        accepts: bool,
        is_healthy: bool,
    }

    fn cases() -> impl Strategy<Value = Vec<Case>> {
        let case = (prop::sample::select(vec!["a", "ab", "b"]), 1..4usize, any::<bool>(), any::<bool>())
            .prop_map(|(name, version, accepts, is_healthy)| Case { name, version, accepts, is_healthy });
        prop::collection::vec(case, 0..9).prop_map(|mut cases| {
            cases.sort_by_key(|case| (case.name, case.version));
            cases.dedup_by_key(|case| (case.name, case.version));
            cases
        })
    }

    /// The rule in other words: of what was asked for, the active version decides whether the frame fits, or
    /// the highest where none is active; where it is not healthy, the highest below that fits and is.
    fn expected(cases: &[Case], active: (&str, usize), asked: &str) -> Option<(usize, bool)> {
        let (name, version) = asked.split_once('@').map_or((asked, None), |(name, v)| (name, Some(v)));
        let is_active = |at: &usize| (cases[*at].name, cases[*at].version) == active;
        let has_active =
            version.is_none() && (0..cases.len()).any(|at| cases[at].name == name && is_active(&at));
        let meant: Vec<usize> = (0..cases.len())
            .filter(|&at| cases[at].name == name)
            .filter(|&at| version.is_none_or(|version| cases[at].version.to_string() == version))
            .filter(|&at| !has_active || cases[at].version <= active.1)
            .collect();
        let &first = meant.last().filter(|&&first| cases[first].accepts)?;
        let usable = meant.iter().rev().find(|&&at| cases[at].accepts && cases[at].is_healthy);
        Some(usable.map_or((first, false), |&at| (at, true)))
    }

    proptest! {
        #[test]
        fn it_behaves_like_the_reference(
            cases in cases(),
            default in "(a|ab|b)(@[1-3])?",
            asked in prop::option::of("(a|ab|b|c)(@[1-3])?"),
            active in (prop::sample::select(vec!["a", "ab", "b"]), 1..4usize),
        ) {
            let versions = cases.iter().map(|case| named(case.name, case.version)).collect();
            let router = Router::new(default.clone(), versions, &[named(active.0, active.1)], Vec::new());
            let routed = router.route(
                asked.as_deref(),
                Sender { session: None, source: "rx", frame: "f" },
                |at| if cases[at].accepts { Ok(()) } else { Err(failure("it does not fit")) },
                |at| if cases[at].is_healthy { Ok(at) } else { Err(failure("it is not healthy")) },
            );
            let routed = routed.ok().map(|Route { place, permit, .. }| {
                prop_assert!(permit.as_ref().is_ok_and(|&of| of == place) || permit.is_err());
                Ok((place, permit.is_ok()))
            }).transpose()?;
            prop_assert_eq!(routed, expected(&cases, active, asked.as_deref().unwrap_or(&default)));
        }
    }

    #[test]
    fn a_split_divides_senders_of_a_bare_name_between_healthy_versions() {
        let names = vec![named("a", 1), named("a", 2), named("b", 1)];
        let weights = [("2".to_owned(), 50.0), ("1".to_owned(), 50.0)];
        let split = Split::new("a", super::super::SplitKey::Session, &weights);
        let router = Router::new("a", names, &[named("a", 1)], Vec::new()).with_splits(vec![split]);
        let ask = |asked, session: &str, is_healthy: fn(usize) -> bool| {
            let sender = Sender { session: Some(session), source: "rx", frame: "f" };
            let admit = |at| if is_healthy(at) { Ok(()) } else { Err(failure("open")) };
            router.route(asked, sender, |_| Ok(()), admit).unwrap()
        };
        let sessions: Vec<String> = (0..200).map(|n| n.to_string()).collect();
        let of = |place| {
            let is_there = |session: &&String| ask(None, session, |_| true).place == place;
            sessions.iter().filter(is_there).count()
        };
        assert!((70..130).contains(&of(1)) && of(0) + of(1) == 200);
        let canary = sessions.iter().find(|session| ask(None, session, |_| true).place == 1).unwrap();
        assert!(ask(Some("a"), canary, |_| true).split.is_some());
        let first = Route { place: 0, permit: Ok(()), split: None, declined: None, shadow: None };
        assert_eq!(ask(Some("a@1"), canary, |_| true), first);
        assert_eq!(ask(None, canary, |at| at != 1), first);
        assert_eq!(ask(Some("b"), canary, |_| true).place, 2);
    }

    #[test]
    fn a_frame_that_only_the_active_version_takes_is_declined_by_the_canary() {
        let split = Split::new("a", super::super::SplitKey::Session, &[("2".to_owned(), 1.0)]);
        let router = Router::new("a", vec![named("a", 1), named("a", 2)], &[named("a", 1)], Vec::new())
            .with_splits(vec![split.clone()]);
        let sender = Sender { session: None, source: "rx", frame: "f" };
        let accepts =
            |most: usize| move |at| if at < most { Ok(()) } else { Err(failure("it does not fit")) };
        let route = router.route(None, sender, accepts(1), |_| Ok(())).unwrap();
        let (place, assignment) = route.declined.unwrap();
        assert_eq!((route.place, place, assignment.split), (0, 1, split.number));
        assert!(router.route(None, sender, accepts(0), |_| Ok(())).is_err());
    }

    #[test]
    fn a_shadow_gets_copies_of_what_the_active_version_serves_by_its_bare_name() {
        let router = Router::new("a", vec![named("a", 1), named("a", 2)], &[named("a", 2)], Vec::new())
            .with_shadows(vec![Shadow::new("a", "1", 1.0)]);
        let shadow = |asked, is_healthy: fn(usize) -> bool| {
            let sender = Sender { session: None, source: "rx", frame: "f" };
            let admit = |at| if is_healthy(at) { Ok(()) } else { Err(failure("open")) };
            router.route(asked, sender, |_| Ok(()), admit).unwrap().shadow
        };
        assert_eq!((shadow(None, |_| true), shadow(Some("a"), |_| true)), (Some(0), Some(0)));
        assert_eq!(shadow(Some("a@2"), |_| true), None);
        assert_eq!(shadow(None, |at| at == 0), None, "the older version has served it");
    }

    #[test]
    fn an_alias_means_its_version() {
        let alias = |name: &str, version: &str| {
            (VersionName { name: "a".into(), version: name.into() }, version.into())
        };
        let router = Router::new("a", vec![named("a", 1), named("a", 2)], &[], Vec::new())
            .with_aliases(vec![alias("champion", "1"), alias("gone", "7")]);
        assert_eq!(router.place_of("a@champion").unwrap(), 0);
        assert!(router.place_of("a@gone").is_err() && router.place_of("b@champion").is_err());
    }

    #[test]
    fn what_is_not_there_is_named_with_what_is() {
        let router = Router::new("a", vec![named("a", 1), named("a", 2)], &[], vec![named("b", 1)]);
        let message = |asked| router.place_of(asked).unwrap_err().message;
        assert_eq!(message("a@3"), "no model `a@3`, loaded: a@1, a@2");
        assert_eq!(message("b"), "no model `b` (refused at load), loaded: a@1, a@2");
        let none = Router::new("a", Vec::new(), &[], Vec::new());
        assert_eq!(none.place_of("a").unwrap_err().message, "no model `a`, loaded: none");
        let many = Router::new("a", (0..20).map(|n| named("m", n)).collect(), &[], Vec::new());
        assert!(many.place_of("a").unwrap_err().message.ends_with("m@15, 4 more"));
    }
}
