//! The fields of the ONNX format (`onnx.proto`) that say where weights are and what a library has to know.
//! All others are skipped, so weights are not copied.

use std::collections::BTreeSet;

use prost::{DecodeError, Message};

/// `ModelProto`.
#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    opsets: Vec<OperatorSet>,
    #[prost(message, repeated, tag = "25")]
    functions: Vec<Function>,
}

/// `OperatorSetIdProto`.
#[derive(Clone, PartialEq, Message)]
struct OperatorSet {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

/// `GraphProto`.
#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    nodes: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    initializers: Vec<Tensor>,
    #[prost(message, repeated, tag = "15")]
    sparse_initializers: Vec<SparseTensor>,
}

/// `FunctionProto`.
#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(message, repeated, tag = "7")]
    nodes: Vec<Node>,
    #[prost(message, repeated, tag = "11")]
    defaults: Vec<Attribute>,
}

/// `NodeProto`.
#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(message, repeated, tag = "5")]
    attributes: Vec<Attribute>,
}

/// `AttributeProto`.
#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(message, optional, tag = "5")]
    tensor: Option<Tensor>,
    #[prost(message, optional, tag = "6")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "10")]
    tensors: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    graphs: Vec<Graph>,
    #[prost(message, optional, tag = "22")]
    sparse_tensor: Option<SparseTensor>,
    #[prost(message, repeated, tag = "23")]
    sparse_tensors: Vec<SparseTensor>,
}

/// `SparseTensorProto`.
#[derive(Clone, PartialEq, Message)]
struct SparseTensor {
    #[prost(message, optional, tag = "1")]
    values: Option<Tensor>,
    #[prost(message, optional, tag = "2")]
    indices: Option<Tensor>,
}

/// `TensorProto`.
#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(message, repeated, tag = "13")]
    external_data: Vec<StringPair>,
    #[prost(int32, tag = "14")]
    data_location: i32,
}

/// `TensorProto.DataLocation.EXTERNAL`.
const EXTERNAL: i32 = 1;

/// `StringStringEntryProto`.
#[derive(Clone, PartialEq, Message)]
struct StringPair {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// The external data files named anywhere in an ONNX file: in initialisers, attributes, graphs within nodes.
///
/// # Errors
/// The bytes are no protocol buffer of this form.
pub(crate) fn external_locations(onnx: &[u8]) -> Result<BTreeSet<String>, DecodeError> {
    let model = Model::decode(onnx)?;
    let mut found = BTreeSet::new();
    model.graph.iter().for_each(|graph| in_graph(graph, &mut found));
    for function in &model.functions {
        function
            .nodes
            .iter()
            .flat_map(|node| &node.attributes)
            .chain(&function.defaults)
            .for_each(|each| in_attribute(each, &mut found));
    }
    Ok(found)
}

/// The versions that the file states, in words; empty where it cannot be read.
pub(crate) fn versions(onnx: &[u8]) -> String {
    let Ok(Model { ir_version, opsets, .. }) = Model::decode(onnx) else { return String::new() };
    let opsets = opsets.iter().map(|OperatorSet { domain, version }| match domain.as_str() {
        "" | "ai.onnx" => format!(", opset {version}"),
        domain => format!(", {} {version}", domain.chars().take(64).collect::<String>().escape_debug()),
    });
    format!("IR version {ir_version}{}", opsets.collect::<String>())
}

/// Number of nodes of the graph, without those of graphs within nodes; 0 where it cannot be read.
pub(crate) fn nodes(onnx: &[u8]) -> usize {
    Model::decode(onnx).ok().and_then(|model| model.graph).map_or(0, |graph| graph.nodes.len())
}

fn in_graph(graph: &Graph, found: &mut BTreeSet<String>) {
    in_tensors(graph.initializers.iter().chain(dense(&graph.sparse_initializers)), found);
    graph.nodes.iter().flat_map(|node| &node.attributes).for_each(|attribute| in_attribute(attribute, found));
}

fn in_attribute(attribute: &Attribute, found: &mut BTreeSet<String>) {
    let Attribute { tensor, graph, tensors, graphs, sparse_tensor, sparse_tensors } = attribute;
    in_tensors(tensor.iter().chain(tensors).chain(dense(sparse_tensor)).chain(dense(sparse_tensors)), found);
    graph.iter().chain(graphs).for_each(|graph| in_graph(graph, found));
}

fn dense<'a>(sparse: impl IntoIterator<Item = &'a SparseTensor>) -> impl Iterator<Item = &'a Tensor> {
    sparse.into_iter().flat_map(|sparse| sparse.values.iter().chain(&sparse.indices))
}

fn in_tensors<'a>(tensors: impl Iterator<Item = &'a Tensor>, found: &mut BTreeSet<String>) {
    let external = tensors.filter(|tensor| tensor.data_location == EXTERNAL);
    let locations = external.flat_map(|tensor| &tensor.external_data).filter(|entry| entry.key == "location");
    found.extend(locations.map(|entry| entry.value.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_found_wherever_a_tensor_may_stand() {
        let pair = |key: &str, value: &str| StringPair { key: key.into(), value: value.into() };
        let tensor = |at: &str| Tensor {
            external_data: vec![pair("offset", "8"), pair("location", at)],
            data_location: EXTERNAL,
        };
        let sparse = |at: &str| SparseTensor {
            values: Some(tensor(&format!("{at}v"))),
            indices: Some(tensor(&format!("{at}i"))),
        };
        let attribute = |n: u8| Attribute {
            tensor: Some(tensor(&format!("{n}a"))),
            tensors: vec![tensor(&format!("{n}b")), tensor(&format!("{n}b"))],
            sparse_tensor: Some(sparse(&format!("{n}c"))),
            sparse_tensors: vec![sparse(&format!("{n}d"))],
            ..Attribute::default()
        };
        let inner =
            |n: u8| Graph { nodes: vec![Node { attributes: vec![attribute(n)] }], ..Graph::default() };
        let nested = Attribute { graph: Some(inner(2)), graphs: vec![inner(3)], ..attribute(1) };
        let inline = Tensor { data_location: 0, ..tensor("inline") };
        let model = Model {
            ir_version: 8,
            opsets: Vec::new(),
            graph: Some(Graph {
                nodes: vec![Node { attributes: vec![nested] }],
                initializers: vec![tensor("w"), inline],
                sparse_initializers: vec![sparse("s")],
            }),
            functions: vec![Function {
                nodes: vec![Node { attributes: vec![attribute(4)] }],
                defaults: vec![attribute(5)],
            }],
        };
        let mut expected: BTreeSet<String> = ["w", "si", "sv"].map(Into::into).into();
        expected.extend(
            (1..=5).flat_map(|n| ["a", "b", "ci", "cv", "di", "dv"].map(move |at| format!("{n}{at}"))),
        );
        assert_eq!(external_locations(&model.encode_to_vec()), Ok(expected));
    }
}
