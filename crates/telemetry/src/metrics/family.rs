//! One reading of all metrics, from which every format is written.

use super::catalogue::Metric;
use super::histogram::Buckets;

/// A metric with its numbers.
#[derive(Debug)]
pub struct Family {
    /// The metric.
    pub metric: &'static Metric,
    /// One point per set of labels.
    pub points: Vec<Point>,
}

/// A number, or a histogram, under its labels.
#[derive(Debug)]
pub struct Point {
    /// Values of the metric's labels, in their order.
    pub labels: Vec<String>,
    /// What was read.
    pub value: Value,
}

/// What was read.
#[derive(Debug)]
pub enum Value {
    /// Value of a counter or a gauge.
    Number(f64),
    /// Value of a histogram.
    Buckets(Buckets),
}

/// A reading in progress.
#[derive(Debug, Default)]
pub struct Reading(Vec<Family>);

impl Reading {
    /// Adds a number.
    pub fn number<const N: usize>(&mut self, metric: &'static Metric, labels: [&str; N], value: f64) {
        self.add(metric, labels.map(str::to_owned).into(), Value::Number(value));
    }

    /// Adds a count.
    pub fn count<const N: usize>(&mut self, metric: &'static Metric, labels: [&str; N], value: u64) {
        self.number(metric, labels, value as f64);
    }

    /// Adds a histogram.
    pub fn buckets<const N: usize>(&mut self, metric: &'static Metric, labels: [&str; N], value: Buckets) {
        self.add(metric, labels.map(str::to_owned).into(), Value::Buckets(value));
    }

    fn add(&mut self, metric: &'static Metric, labels: Vec<String>, value: Value) {
        debug_assert_eq!(
            labels.len(),
            metric.labels.len(),
            "{} has the labels {:?}",
            metric.name,
            metric.labels
        );
        let point = Point { labels, value };
        match self.0.iter_mut().find(|family| std::ptr::eq(family.metric, metric)) {
            Some(family) => family.points.push(point),
            None => self.0.push(Family { metric, points: vec![point] }),
        }
    }

    /// What was read.
    pub fn families(&self) -> &[Family] {
        &self.0
    }
}
