//! The classification head.

use std::sync::Arc;

use sferic_actors::outcome::Label;

use super::super::output_section::Activation;
use super::super::port::{Axis, Elements, Port};
use super::super::values::{Class, Reading, ScoreMap, Values};

/// How the declared output of a classification of so many labels is read: integers `[B]` or `[B, 1]` and
/// strings are labels, unless a score is all that `[B, 1]` can be.
pub(super) fn reading(port: &Port, labels: usize) -> Reading {
    let one_a_frame = match &port.axes[..] {
        [_] => true,
        [_, Axis::Fixed(1)] => labels > 1,
        _ => false,
    };
    match port.elements {
        Elements::Strings => Reading::Classes,
        Elements::Numbers(dtype) if dtype.is_integer() && one_a_frame => Reading::Classes,
        Elements::ScoreMaps => Reading::ScoreMaps,
        _ => Reading::Floats,
    }
}

/// Converts an output to labels with scores.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Classifier {
    reading: Reading,
    /// Activation that turns logits into scores.
    activation: Activation,
    /// In the order of the output.
    labels: Vec<Arc<str>>,
    /// The labels parsed as numbers, if all are; then a class is matched by value, else it is an index.
    numbers: Option<Vec<i64>>,
    /// Number of labels in an answer.
    top_k: usize,
}

impl Classifier {
    pub(super) fn new(
        reading: Reading,
        activation: Option<Activation>,
        labels: &[String],
        top_k: usize,
    ) -> Self {
        // The scores of a map are probabilities already.
        let usual = if reading == Reading::ScoreMaps { Activation::None } else { Activation::Softmax };
        Self {
            reading,
            activation: activation.unwrap_or(usual),
            labels: labels.iter().map(|label| label.as_str().into()).collect(),
            numbers: labels.iter().map(|label| label.parse().ok()).collect(),
            top_k,
        }
    }

    /// The `top_k` labels with the highest scores, highest first; of equal ones the earlier. Scores are
    /// finite; unnamed scores are as many as the labels. A label without a score keeps none: what the model
    /// does not state is not invented.
    ///
    /// # Errors
    /// In words, a class that is none of the labels, or a label without its score.
    pub(super) fn answer(&self, values: Values<'_>) -> Result<Vec<Label>, String> {
        match values {
            Values::Floats(logits) => Ok(self.best(logits)),
            Values::ScoreMaps([map]) => Ok(self.best(&self.in_order(map)?)),
            Values::Classes([class]) => {
                Ok(vec![Label { label: Arc::clone(&self.labels[self.index(class)?]), score: None }])
            }
            _ => Err("holds no answer".into()),
        }
    }

    fn best(&self, logits: &[f32]) -> Vec<Label> {
        let mut scored: Vec<(f64, &Arc<str>)> =
            scores(self.activation, logits).into_iter().zip(&self.labels).collect();
        scored.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        scored
            .into_iter()
            .take(self.top_k)
            .map(|(score, label)| Label { label: Arc::clone(label), score: Some(score) })
            .collect()
    }

    /// The scores of a map in the order of the labels.
    ///
    /// # Errors
    /// As [`answer`](Self::answer).
    pub(super) fn in_order(&self, map: &ScoreMap) -> Result<Vec<f32>, String> {
        let mut found = vec![None; self.labels.len()];
        for (class, score) in map {
            found[self.index(class)?] = Some(*score);
        }
        let scores = found.into_iter().zip(&self.labels);
        scores
            .map(|(score, label)| score.ok_or_else(|| format!("has no score for the label \"{label}\"")))
            .collect()
    }

    /// The index of a class among the labels.
    fn index(&self, class: &Class) -> Result<usize, String> {
        let index = match (class, &self.numbers) {
            (Class::Name(name), _) => self.labels.iter().position(|label| **label == **name),
            (Class::Number(number), Some(numbers)) => numbers.iter().position(|label| label == number),
            (Class::Number(number), None) => {
                usize::try_from(*number).ok().filter(|index| *index < self.labels.len())
            }
        };
        index.ok_or_else(|| {
            format!("gives the class {class}, none of the {} labels of model.toml", self.labels.len())
        })
    }

    /// Replaces the labels by those of this head; `None` where they differ, or where their number is not that
    /// of its answers.
    pub(super) fn rebind(&self, labels: Vec<Label>) -> Option<Vec<Label>> {
        let (scored, count) = match self.reading {
            Reading::Classes => (false, 1),
            _ => (true, self.top_k.min(self.labels.len())),
        };
        let own = |Label { label, score }: Label| {
            let label = self.labels.iter().find(|own| **own == label)?;
            let fits = score.is_some() == scored && score.is_none_or(f64::is_finite);
            fits.then(|| Label { label: Arc::clone(label), score })
        };
        let labels: Vec<Label> = labels.into_iter().map(own).collect::<Option<_>>()?;
        (labels.len() == count).then_some(labels)
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
    use sferic_actors::tensor::Dtype;

    fn top(activation: Activation, top_k: usize, logits: &[f32]) -> Vec<(String, f64)> {
        let labels: Vec<_> = (0..logits.len()).map(|index| index.to_string()).collect();
        let answer = Classifier::new(Reading::Floats, Some(activation), &labels, top_k)
            .answer(Values::Floats(logits))
            .expect("an answer");
        answer.into_iter().map(|label| (label.label.to_string(), label.score.expect("a score"))).collect()
    }

    fn classifier(reading: Reading, labels: &[&str]) -> Classifier {
        Classifier::new(reading, None, &labels.iter().map(|&label| label.into()).collect::<Vec<_>>(), 5)
    }

    fn number(number: i64) -> Class {
        Class::Number(number)
    }

    fn name(name: &str) -> Class {
        Class::Name(name.into())
    }

    #[test]
    fn the_best_come_first_and_equals_in_their_order() {
        let best = top(Activation::None, 3, &[0.5, 2.0, -1.0, 2.0]);
        assert_eq!(best, [("1".into(), 2.0), ("3".into(), 2.0), ("0".into(), 0.5)]);
        assert_eq!(top(Activation::None, 9, &[1.0, 2.0]).len(), 2);
    }

    #[test]
    fn softmax_has_its_known_values_and_does_not_overflow() {
        let [(_, a), (_, b)] = top(Activation::Softmax, 2, &[1.0f32, 0.0])[..] else { panic!() };
        assert!((a - 0.731_058_578_630_004_9).abs() < 1e-15 && (a + b - 1.0).abs() < 1e-15);
        assert_eq!(
            top(Activation::Softmax, 2, &[f32::MAX, -f32::MAX]),
            [("0".into(), 1.0), ("1".into(), 0.0)]
        );
    }

    #[test]
    fn sigmoid_is_each_by_itself() {
        assert_eq!(
            top(Activation::Sigmoid, 3, &[0.0, f32::MAX, -f32::MAX]),
            [("1".into(), 1.0), ("0".into(), 0.5), ("2".into(), 0.0)]
        );
    }

    #[test]
    fn integers_and_strings_are_labels_unless_there_are_scores() {
        let port = |elements, axes: &[Axis]| Port { name: "y".into(), elements, axes: axes.into() };
        let (batch, one, three) = (Axis::Free("B".into()), Axis::Fixed(1), Axis::Fixed(3));
        for (elements, axes, labels, expected) in [
            (Elements::Numbers(Dtype::Int64), &[batch.clone()][..], 3, Reading::Classes),
            (Elements::Numbers(Dtype::Int32), &[batch.clone(), one.clone()], 3, Reading::Classes),
            (Elements::Numbers(Dtype::Int8), &[batch.clone(), one.clone()], 1, Reading::Floats),
            (Elements::Numbers(Dtype::Int8), &[batch.clone(), three.clone()], 3, Reading::Floats),
            (Elements::Numbers(Dtype::Float16), std::slice::from_ref(&batch), 3, Reading::Floats),
            (Elements::Numbers(Dtype::Bool), std::slice::from_ref(&batch), 3, Reading::Floats),
            (Elements::Strings, std::slice::from_ref(&batch), 3, Reading::Classes),
            (Elements::ScoreMaps, &[], 3, Reading::ScoreMaps),
        ] {
            assert_eq!(reading(&port(elements, axes), labels), expected, "{elements:?} {axes:?}");
        }
    }

    #[test]
    fn a_label_alone_has_no_score() {
        let classes = classifier(Reading::Classes, &["am", "fm", "ook"]);
        for class in [number(1), name("fm")] {
            assert_eq!(
                classes.answer(Values::Classes(&[class])),
                Ok(vec![Label { label: "fm".into(), score: None }])
            );
        }
        for (class, shown) in
            [(number(3), "3"), (number(-1), "-1"), (name("psk"), "\"psk\""), (name("1"), "\"1\"")]
        {
            let error = classes.answer(Values::Classes(&[class])).expect_err("answered");
            assert_eq!(error, format!("gives the class {shown}, none of the 3 labels of model.toml"));
        }
    }

    #[test]
    fn a_number_selects_the_equal_label_where_all_labels_are_numbers() {
        let orders = classifier(Reading::Classes, &["16", "64", "4"]);
        assert_eq!(orders.index(&number(64)), Ok(1));
        assert!(orders.index(&number(0)).is_err());
        assert_eq!(classifier(Reading::Classes, &["16", "64", "none"]).index(&number(2)), Ok(2));
    }

    #[test]
    fn a_map_is_scores_in_any_order_and_every_label_has_one() {
        let maps = classifier(Reading::ScoreMaps, &["am", "fm", "ook"]);
        let best = |map: ScoreMap| {
            let answer = maps.answer(Values::ScoreMaps(&[map]))?;
            Ok(answer.into_iter().map(|label| (label.label.to_string(), label.score)).collect::<Vec<_>>())
        };
        let expected =
            [("fm".to_string(), Some(0.5)), ("am".into(), Some(0.375)), ("ook".into(), Some(0.125))];
        assert_eq!(
            best(vec![(name("ook"), 0.125), (name("am"), 0.375), (name("fm"), 0.5)]),
            Ok(expected.to_vec()),
            "as they are"
        );
        assert_eq!(
            best(vec![(number(2), 0.125), (number(0), 0.375), (number(1), 0.5)]),
            Ok(expected.to_vec())
        );
        assert_eq!(
            best(vec![(number(0), 0.5), (number(1), 0.5)]),
            Err("has no score for the label \"ook\"".to_string())
        );
        assert!(
            best(vec![(number(0), 0.5), (number(1), 0.5), (number(3), 0.0)])
                .is_err_and(|error| error.contains("class 3"))
        );
        let labels: Vec<String> = ["a", "b"].map(Into::into).into();
        let softmax = Classifier::new(Reading::ScoreMaps, Some(Activation::Softmax), &labels, 1);
        let answer = softmax
            .answer(Values::ScoreMaps(&[vec![(number(0), 1.0), (number(1), 0.0)]]))
            .expect("an answer");
        assert!(
            answer[0].score.is_some_and(|score| (score - 0.731_058_578).abs() < 1e-6),
            "where the bundle says so"
        );
    }

    #[test]
    fn a_cached_answer_has_scores_where_the_model_gives_some() {
        let label = |score| vec![Label { label: "am".into(), score }];
        let (alone, scored) =
            (classifier(Reading::Classes, &["am", "fm"]), classifier(Reading::Floats, &["am"]));
        assert!(alone.rebind(label(None)).is_some() && alone.rebind(label(Some(1.0))).is_none());
        assert!(scored.rebind(label(Some(1.0))).is_some() && scored.rebind(label(None)).is_none());
        assert!(scored.rebind(label(Some(f64::NAN))).is_none());
    }

    proptest! {
        #[test]
        fn scores_are_probabilities_in_falling_order(
            logits in prop::collection::vec(-1e4..1e4f32, 1..20),
            softmax in any::<bool>(),
        ) {
            let activation = if softmax { Activation::Softmax } else { Activation::Sigmoid };
            let best = top(activation, logits.len(), &logits);
            prop_assert!(best.iter().all(|(_, score)| (0.0..=1.0).contains(score)));
            prop_assert!(best.windows(2).all(|pair| pair[0].1 >= pair[1].1));
            if softmax {
                prop_assert!((best.iter().map(|(_, score)| score).sum::<f64>() - 1.0).abs() < 1e-12);
            }
        }
    }
}
