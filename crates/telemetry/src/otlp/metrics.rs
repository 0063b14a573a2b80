//! A metrics reading in OTLP.

use std::time::SystemTime;

use opentelemetry::Value as Attribute;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Exemplar, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, exemplar, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::super::metrics::catalogue::MetricKind;
use super::super::metrics::{Buckets, Family, Point, Reading, Value};
use super::scope::scope;
use super::spans::nanoseconds;

/// The export request of `reading`; its counters count from `started` on.
pub fn request(reading: &Reading, resource: &Resource, started: SystemTime) -> ExportMetricsServiceRequest {
    let range = TimeRange { started: nanoseconds(started), now: nanoseconds(SystemTime::now()) };
    let metrics = reading.families().iter().map(|family| range.metric(family)).collect();
    let scope_metrics =
        vec![ScopeMetrics { scope: Some((&scope(), None).into()), metrics, ..ScopeMetrics::default() }];
    let resource_metrics = vec![ResourceMetrics {
        resource: Some(resource.clone()),
        scope_metrics,
        ..ResourceMetrics::default()
    }];
    ExportMetricsServiceRequest { resource_metrics }
}

/// Time range of a reading.
struct TimeRange {
    started: u64,
    now: u64,
}

impl TimeRange {
    fn metric(&self, family: &Family) -> Metric {
        let cumulative = AggregationTemporality::Cumulative.into();
        let points = || family.points.iter();
        let data = match family.metric.kind {
            MetricKind::Gauge => metric::Data::Gauge(Gauge {
                data_points: points().map(|point| self.number(family, point)).collect(),
            }),
            MetricKind::Counter => metric::Data::Sum(Sum {
                data_points: points().map(|point| self.number(family, point)).collect(),
                aggregation_temporality: cumulative,
                is_monotonic: true,
            }),
            MetricKind::Histogram => metric::Data::Histogram(Histogram {
                data_points: points().filter_map(|point| self.histogram(family, point)).collect(),
                aggregation_temporality: cumulative,
            }),
        };
        Metric {
            name: family.metric.name.into(),
            description: family.metric.help.into(),
            unit: family.metric.unit.into(),
            data: Some(data),
            ..Metric::default()
        }
    }

    fn number(&self, family: &Family, point: &Point) -> NumberDataPoint {
        let value = match point.value {
            Value::Number(number) => Some(number_data_point::Value::AsDouble(number)),
            Value::Buckets(_) => None,
        };
        NumberDataPoint {
            attributes: attributes(family, point),
            start_time_unix_nano: self.started,
            time_unix_nano: self.now,
            value,
            ..NumberDataPoint::default()
        }
    }

    fn histogram(&self, family: &Family, point: &Point) -> Option<HistogramDataPoint> {
        let Value::Buckets(buckets) = &point.value else { return None };
        Some(HistogramDataPoint {
            attributes: attributes(family, point),
            start_time_unix_nano: self.started,
            time_unix_nano: self.now,
            count: buckets.count(),
            sum: Some(buckets.sum),
            bucket_counts: buckets.counts.clone(),
            explicit_bounds: buckets.bounds.clone(),
            exemplars: exemplars(buckets),
            ..HistogramDataPoint::default()
        })
    }
}

fn attributes(family: &Family, point: &Point) -> Vec<KeyValue> {
    let pairs = family.metric.labels.iter().zip(&point.labels);
    pairs.map(|(&name, value)| (&name.into(), &Attribute::from(value.clone())).into()).collect()
}

fn exemplars(buckets: &Buckets) -> Vec<Exemplar> {
    let exemplar = |exemplar: &super::super::metrics::Exemplar| Exemplar {
        time_unix_nano: nanoseconds(exemplar.time),
        trace_id: exemplar.trace_id.to_bytes().into(),
        span_id: exemplar.span_id.to_bytes().into(),
        value: Some(exemplar::Value::AsDouble(exemplar.value)),
        ..Exemplar::default()
    };
    buckets.exemplars.iter().flatten().map(exemplar).collect()
}
