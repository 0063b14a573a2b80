//! The execution providers that the nodes of a model really ran on, from the profile of ONNX Runtime.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::options::ExecutionProvider;

/// The shares of the execution providers in a run, the largest time first.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Dispatch {
    shares: Vec<DispatchShare>,
    #[serde(skip)]
    nodes: usize,
}

/// The share of one execution provider.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DispatchShare {
    /// Its name in `pool.execution_providers`.
    pub provider: String,
    /// Share of the executed nodes, 0 to 1. A fused node counts once.
    pub nodes: f64,
    /// Share of the time in nodes, 0 to 1.
    pub time: f64,
}

/// The fields of a profile event that are read.
#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    cat: String,
    #[serde(default)]
    name: String,
    /// Start and duration, microseconds.
    #[serde(default)]
    ts: f64,
    #[serde(default)]
    dur: f64,
    #[serde(default)]
    args: Arguments,
}

#[derive(Default, Deserialize)]
struct Arguments {
    #[serde(default)]
    op_name: String,
    #[serde(default)]
    provider: String,
}

impl Dispatch {
    /// Reads a profile in the trace event format. The first of several runs is skipped, because it fills
    /// caches.
    ///
    /// # Errors
    /// In words: it is no profile, or no node ran in it.
    pub(crate) fn read(profile: &str) -> Result<Self, String> {
        let events: Vec<Event> = serde_json::from_str(profile).map_err(|error| error.to_string())?;
        let mut runs: Vec<f64> =
            events.iter().filter(|event| event.name == "model_run").map(|event| event.ts).collect();
        runs.sort_by(f64::total_cmp);
        let begin = runs.get(1).copied().unwrap_or(f64::NEG_INFINITY);
        // A control-flow node is skipped: its time is that of the nodes in it.
        let counts = |event: &&Event| {
            let node = event.cat == "Node"
                && event.name.ends_with("_kernel_time")
                && !event.args.provider.is_empty();
            node && event.ts >= begin && !["Loop", "If", "Scan"].contains(&event.args.op_name.as_str())
        };
        let mut found: BTreeMap<&str, (HashSet<&str>, f64)> = BTreeMap::new();
        for event in events.iter().filter(counts) {
            let (nodes, time) = found.entry(&event.args.provider).or_default();
            nodes.insert(&event.name);
            *time += event.dur;
        }
        let nodes: usize = found.values().map(|(nodes, _)| nodes.len()).sum();
        let time: f64 = found.values().map(|(_, time)| time).sum();
        if nodes == 0 || time <= 0.0 {
            return Err(format!("{nodes} nodes in {time} µs"));
        }
        let mut shares: Vec<DispatchShare> = found
            .into_iter()
            .map(|(provider, (ran, took))| DispatchShare {
                provider: provider.trim_end_matches("ExecutionProvider").to_lowercase(),
                nodes: ran.len() as f64 / nodes as f64,
                time: took / time,
            })
            .collect();
        shares.sort_by(|a, b| b.time.total_cmp(&a.time));
        Ok(Self { shares, nodes })
    }

    /// The shares of all providers that ran a node.
    pub fn shares(&self) -> &[DispatchShare] {
        &self.shares
    }

    /// Number of nodes that ran: those that the library's optimisation has left, each fused one once.
    pub fn nodes(&self) -> usize {
        self.nodes
    }

    /// The share of one provider; zeros where it ran no node.
    pub fn of(&self, provider: ExecutionProvider) -> DispatchShare {
        let name = provider.name();
        let share = self.shares.iter().find(|share| share.provider == name).cloned();
        share.unwrap_or(DispatchShare { provider: name.into(), nodes: 0.0, time: 0.0 })
    }
}

impl std::fmt::Display for Dispatch {
    /// `openvino 90 % of nodes, 98 % of time; cpu 10 % of nodes, 2 % of time`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, DispatchShare { provider, nodes, time }) in self.shares.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "; " })?;
            write!(f, "{provider} {:.0} % of nodes, {:.0} % of time", 100.0 * nodes, 100.0 * time)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, op: &str, provider: &str, ts: u32, dur: u32) -> String {
        let args = format!(r#"{{"op_name":"{op}","provider":"{provider}","node_index":"1"}}"#);
        let named = format!(r#""name":"{name}_kernel_time","args":{args}"#);
        format!(r#"{{"cat":"Node","pid":1,"tid":1,"dur":{dur},"ts":{ts},"ph":"X",{named}}}"#)
    }

    fn session(name: &str, ts: u32) -> String {
        format!(
            r#"{{"cat":"Session","pid":1,"tid":1,"dur":50,"ts":{ts},"ph":"X","name":"{name}","args":{{}}}}"#
        )
    }

    #[test]
    fn shares_are_of_the_nodes_and_the_time_after_the_first_run() {
        let (cpu, openvino) = ("CPUExecutionProvider", "OpenVINOExecutionProvider");
        let events = [
            session("model_loading_array", 0),
            node("a", "Conv", cpu, 110, 9000),
            session("model_run", 100),
            node("a", "Conv", cpu, 210, 10),
            node("fused", "part_0", openvino, 220, 20),
            session("model_run", 200),
            node("a", "Conv", cpu, 310, 10),
            node("fused", "part_0", openvino, 320, 40),
            node("loop", "Loop", cpu, 300, 500),
            node("b", "MatMul", cpu, 370, 0),
            session("model_run", 300),
        ];
        let dispatch = Dispatch::read(&format!("[{}]", events.join(",\n"))).expect("refused");
        let [openvino, cpu] = dispatch.shares() else { panic!("{dispatch:?}") };
        assert_eq!(
            (openvino.provider.as_str(), openvino.nodes, openvino.time),
            ("openvino", 1.0 / 3.0, 0.75)
        );
        assert_eq!((cpu.provider.as_str(), cpu.nodes, cpu.time), ("cpu", 2.0 / 3.0, 0.25));
        assert_eq!(dispatch.of(ExecutionProvider::Openvino), *openvino);
        assert_eq!(dispatch.of(ExecutionProvider::Cuda).time, 0.0);
        assert_eq!(
            dispatch.to_string(),
            "openvino 33 % of nodes, 75 % of time; cpu 67 % of nodes, 25 % of time"
        );
    }

    #[test]
    fn a_single_run_counts_and_nothing_is_no_dispatch() {
        let cpu = "CPUExecutionProvider";
        let events = [node("a", "Conv", cpu, 110, 10), session("model_run", 100)];
        assert_eq!(
            Dispatch::read(&format!("[{}]", events.join(",")))
                .expect("refused")
                .of(ExecutionProvider::Cpu)
                .time,
            1.0
        );
        for nothing in ["", "{}", "[]", &format!("[{}]", session("model_run", 1))] {
            assert!(Dispatch::read(nothing).is_err(), "{nothing}");
        }
    }
}
