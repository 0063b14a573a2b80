//! Models as the protocol describes them.

use std::time::Duration;

use serde_json::{Value, json};
use sferic_models::{Axis, Elements, Port};
use sferic_onnx::{Model, Version, VersionState, Versions};
use sferic_telemetry::Stage;
use sferic_telemetry::metrics::{FrameTimes, ModelTimes, Recorded};
use sferic_wire::MAX_BATCH;

use super::tensor::datatype;

/// Name of this kind of model elsewhere.
const PLATFORM: &str = "onnxruntime_onnx";

/// The datatype and the axes of a tensor; the first one is the batch. `None` for what is no tensor.
fn tensor(port: &Port) -> Option<(&'static str, Vec<i64>)> {
    let name = match port.elements {
        Elements::Numbers(dtype) => datatype(dtype),
        Elements::Strings | Elements::ScoreMaps | Elements::Unsupported => return None,
    };
    let rest = port.axes.iter().skip(1).map(|axis| match axis {
        Axis::Fixed(length) => i64::try_from(*length).unwrap_or(-1),
        Axis::Free(_) => -1,
    });
    Some((name, [-1].into_iter().chain(rest).collect()))
}

/// Names of the tensors among these.
pub(super) fn names(ports: &[Port]) -> Vec<&str> {
    ports.iter().filter(|port| tensor(port).is_some()).map(|port| &*port.name).collect()
}

/// Numbers of the versions that can serve.
fn ready(versions: &Versions) -> Vec<&str> {
    versions.ready().map(|model| &*model.id().version).collect()
}

/// The metadata of a model.
pub(super) fn metadata(model: &Model, versions: &Versions) -> Value {
    let ports = |ports: &[Port]| {
        let described = ports.iter().filter_map(|port| {
            let (datatype, shape) = tensor(port)?;
            Some(json!({"name": port.name, "datatype": datatype, "shape": shape}))
        });
        described.collect::<Vec<_>>()
    };
    json!({
        "name": model.id().name,
        "versions": ready(versions),
        "platform": PLATFORM,
        "inputs": ports(model.inputs()),
        "outputs": ports(model.outputs()),
    })
}

/// The configuration of a model, where the batch is not among the dimensions.
pub(super) fn config(model: &Model, versions: &Versions) -> Value {
    let ports = |ports: &[Port]| {
        let described = ports.iter().filter_map(|port| {
            let (datatype, shape) = tensor(port)?;
            let data_type = format!("TYPE_{datatype}");
            Some(json!({"name": port.name, "data_type": data_type, "dims": shape[1..]}))
        });
        described.collect::<Vec<_>>()
    };
    json!({
        "name": model.id().name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "version_policy": {"specific": {"versions": ready(versions)}},
        "max_batch_size": MAX_BATCH,
        "input": ports(model.inputs()),
        "output": ports(model.outputs()),
    })
}

/// What was counted of a version since the start. As Triton has it, `compute_` is of frames that had a run of
/// their own.
pub(super) fn statistics(model: &Model, recorded: &Recorded) -> Value {
    let id = model.id();
    let ModelTimes { computed, stages, cached, failed } = recorded.of_model(&id.name, &id.version).times;
    let of = |frames: u64, time: Duration| json!({"count": frames, "ns": nanoseconds(time)});
    let stage = |stage: Stage| of(computed.frames, stages[stage as usize]);
    let all = |times: FrameTimes| of(times.frames, times.time);
    let answered = computed.frames + cached.frames;
    json!({
        "name": id.name,
        "version": id.version,
        "inference_count": computed.frames,
        "execution_count": computed.frames,
        "inference_stats": {
            "success": of(answered, computed.time + cached.time),
            "fail": all(failed),
            "queue": of(answered, stages[Stage::Queue as usize]),
            "compute_input": stage(Stage::Features),
            "compute_infer": stage(Stage::Inference),
            "compute_output": stage(Stage::Publish),
            "cache_hit": all(cached),
            "cache_miss": of(0, Duration::ZERO),
        },
    })
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A version in the index of the repository.
pub(super) fn entry(name: &str, version: &Version) -> Value {
    let (state, reason) = match &version.state {
        VersionState::Ready(_) => ("READY", ""),
        VersionState::Loading => ("LOADING", ""),
        VersionState::Failed(reason) => ("UNAVAILABLE", &**reason),
        VersionState::Draining(_) | VersionState::Unloaded => ("UNAVAILABLE", "unloaded"),
    };
    json!({"name": name, "version": version.version, "state": state, "reason": reason})
}
