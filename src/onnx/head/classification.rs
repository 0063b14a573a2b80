//! What the signal is.

use std::sync::Arc;

use sferic_actors::outcome::Label;

use super::super::output_section::Activation;

/// How classes are told.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Classifier {
    /// From logits to scores.
    pub activation: Activation,
    /// In the order of the output.
    pub labels: Vec<Arc<str>>,
    /// How many are told.
    pub top_k: usize,
}

impl Classifier {
    /// The `top_k` best, best first; of equals the earlier one. `logits` are finite and as many as the labels.
    pub(super) fn answer(&self, logits: &[f32]) -> Vec<Label> {
        let mut scored: Vec<(f64, &Arc<str>)> = scores(self.activation, logits).into_iter().zip(&self.labels).collect();
        scored.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        scored.into_iter().take(self.top_k).map(|(score, label)| Label { label: Arc::clone(label), score }).collect()
    }

    /// The same labels as this one's own; `None` where they are not, or not as many as it tells.
    pub(super) fn recognise(&self, labels: Vec<Label>) -> Option<Vec<Label>> {
        let own = |Label { label, score }: Label| {
            let label = self.labels.iter().find(|own| **own == label)?;
            score.is_finite().then(|| Label { label: Arc::clone(label), score })
        };
        let labels: Vec<Label> = labels.into_iter().map(own).collect::<Option<_>>()?;
        (labels.len() == self.top_k.min(self.labels.len())).then_some(labels)
    }
}

fn scores(activation: Activation, logits: &[f32]) -> Vec<f64> {
    let logits = logits.iter().map(|&logit| f64::from(logit));
    match activation {
        Activation::Softmax => {
            // The largest exponent is zero, so nothing overflows and the sum is at least one.
            let largest = logits.clone().fold(f64::NEG_INFINITY, f64::max);
            let powers: Vec<f64> = logits.map(|logit| (logit - largest).exp()).collect();
            let sum: f64 = powers.iter().sum();
            powers.into_iter().map(|power| power / sum).collect()
        }
        Activation::Sigmoid => logits.map(|logit| 1.0 / (1.0 + (-logit).exp())).collect(),
        Activation::None => logits.collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(activation: Activation, top_k: usize, logits: &[f32]) -> Vec<(String, f64)> {
        let labels = (0..logits.len()).map(|index| index.to_string().as_str().into()).collect();
        let classifier = Classifier { activation, labels, top_k };
        classifier.answer(logits).into_iter().map(|label| (label.label.to_string(), label.score)).collect()
    }

    #[test]
    fn the_best_come_first_and_equals_in_their_order() {
        let best = told(Activation::None, 3, &[0.5, 2.0, -1.0, 2.0]);
        assert_eq!(best, [("1".into(), 2.0), ("3".into(), 2.0), ("0".into(), 0.5)]);
        assert_eq!(told(Activation::None, 9, &[1.0, 2.0]).len(), 2);
    }

    #[test]
    fn softmax_has_its_known_values_and_does_not_overflow() {
        let [(_, a), (_, b)] = told(Activation::Softmax, 2, &[1.0f32, 0.0])[..] else { panic!() };
        assert!((a - 0.731_058_578_630_004_9).abs() < 1e-15 && (a + b - 1.0).abs() < 1e-15);
        assert_eq!(told(Activation::Softmax, 2, &[f32::MAX, -f32::MAX]), [("0".into(), 1.0), ("1".into(), 0.0)]);
    }

    #[test]
    fn sigmoid_is_each_by_itself() {
        assert_eq!(told(Activation::Sigmoid, 3, &[0.0, f32::MAX, -f32::MAX]), [("1".into(), 1.0), ("0".into(), 0.5), ("2".into(), 0.0)]);
    }

    proptest! {
        #[test]
        fn scores_are_probabilities_in_falling_order(logits in prop::collection::vec(-1e4..1e4f32, 1..20), softmax in any::<bool>()) {
            let activation = if softmax { Activation::Softmax } else { Activation::Sigmoid };
            let told = told(activation, logits.len(), &logits);
            prop_assert!(told.iter().all(|(_, score)| (0.0..=1.0).contains(score)));
            prop_assert!(told.windows(2).all(|pair| pair[0].1 >= pair[1].1));
            if softmax {
                prop_assert!((told.iter().map(|(_, score)| score).sum::<f64>() - 1.0).abs() < 1e-12);
            }
        }
    }
}
