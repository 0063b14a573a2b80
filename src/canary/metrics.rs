//! Metrics of splits, shadows and truths.

use sferic_telemetry::metrics::{Reading, catalogue as metrics};

use super::in_shadow::InShadow;
use super::state::{Canaries, OfModel};

impl Canaries {
    /// Reads them.
    pub fn read(&self, to: &mut Reading) {
        for (name, of_model) in &self.state().models {
            of_model.read(name, to);
        }
    }
}

impl OfModel {
    fn read(&self, name: &str, to: &mut Reading) {
        for (version, share) in self.plan.iter().flat_map(|plan| plan.split.shares()) {
            to.number(&metrics::SPLIT_SHARE, [name, version], share);
        }
        for (canary, evidence) in self.plan.iter().flat_map(|plan| plan.evidence()) {
            let of =
                [("failures", evidence.failures), ("latency", evidence.latency), ("score", evidence.score)];
            for (question, of) in of {
                to.number(&metrics::CANARY_EVIDENCE, [name, canary, question], of / evidence.needed);
            }
        }
        for (how, count) in ["rolled_back", "promoted", "ended"].into_iter().zip(self.ends) {
            to.count(&metrics::SPLITS_ENDED, [name, how], count);
        }
        for (version, (_, tally)) in &self.tallies {
            let of = tally.view();
            to.count(&metrics::MODEL_TRUTHS, [name, version], of.truths);
            let means = [
                (&metrics::TRUTH_ERROR, of.error),
                (&metrics::TRUTH_SCORE, of.score),
                (&metrics::TRUTH_COVERAGE, of.coverage),
                (&metrics::TRUTH_COVERAGE_PROMISED, of.promised_coverage),
            ];
            for (metric, mean) in means {
                if let Some(mean) = mean {
                    to.number(metric, [name, version], mean);
                }
            }
        }
        if let Some(InShadow { shadow, counts, .. }) = &self.shadow {
            for (result, count) in ["compared", "failed", "skipped"].into_iter().zip(*counts) {
                to.count(&metrics::SHADOW_FRAMES, [name, &shadow.version, result], count);
            }
        }
    }
}
