//! The Open Inference Protocol: what its clients do not try.

use futures::StreamExt;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::http_client::*;
use crate::support::*;

const INFER: &str = "/v2/models/degrees/infer";

/// Sixteen samples of 0.5 and 0.25: 45 degrees north, 90 east.
fn steady_tensor() -> Value {
    let data = [vec![0.5; 16], vec![0.25; 16]];
    json!({"name": "x", "shape": [1, 1, 2, 16], "datatype": "FP32", "data": data})
}

fn request(inputs: Value) -> Value {
    json!({"inputs": inputs})
}

/// An error as the protocol has it; the message.
fn error(answer: &Answer, status: u16) -> String {
    let body = answer.json();
    assert_eq!(answer.status, status, "{body}");
    assert_eq!(body["error"], body["message"]);
    body["error"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_a_frame_whose_outcome_is_published() {
    if !tools_are_there() {
        return;
    }
    let served = Served::start(&["degrees"], |_| {}).await;
    let mut predictions = served.subscribe("iq.predictions.>").await;
    let parameters = json!({"session_id": "s", "source": "roof.rx2", "timeout": 5_000_000, "priority": 2});
    let body = json!({"id": "a", "parameters": parameters, "inputs": [steady_tensor()]});
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [("Content-Type", "application/json"), ("traceparent", trace)];
    let answer = call(served.address, "POST", INFER, &headers, body.to_string().as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert!(answer.header("traceparent").unwrap().starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
    let body = answer.json();
    assert_eq!(
        (&body["id"], &body["model_name"], &body["model_version"]),
        (&json!("a"), &json!("degrees"), &json!("1"))
    );
    let position = &body["outputs"][0];
    assert_eq!(
        *position,
        json!({"name": "position", "datatype": "FP32", "shape": [1, 2], "data": [45.0, 90.0]})
    );
    let published = predictions.next().await.unwrap();
    assert_eq!(published.subject.as_str(), "iq.predictions.roof.rx2");
    let published = rmpv::decode::read_value(&mut &published.payload[..]).unwrap();
    let text = |key: &str| {
        let mut entries = published.as_map().unwrap().iter();
        entries.find(|(name, _)| name.as_str() == Some(key)).unwrap().1.as_str().unwrap().to_owned()
    };
    assert_eq!(["frame_id", "session_id", "kind"].map(text), ["a", "s", "tensors"]);
    assert_eq!(served.end().await, [1, 1, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tensors_and_samples_are_never_taken_for_each_other() {
    if !tools_are_there() {
        return;
    }
    let served = Served::start(&["degrees"], |_| {}).await;
    // The same numbers: as samples on the way of all frames, as samples of the protocol, as the input itself.
    let frame = json!({"iq_data": vec![[0.5, 0.25]; 16]});
    let samples =
        json!({"name": "iq", "shape": [1, 16, 2], "datatype": "FP32", "data": vec![[0.5, 0.25]; 16]});
    for _ in 0..2 {
        let answer = served.post(PREDICT, &frame).await.json();
        assert_eq!(
            (&answer["kind"], &answer["position"]["latitude"]),
            (&json!("localization"), &json!(45.0))
        );
        for input in [steady_tensor(), samples.clone()] {
            let answer = served.post(INFER, &request(json!([input]))).await.json();
            assert_eq!(answer["outputs"][0]["data"], json!([45.0, 90.0]), "{answer}");
        }
    }
    assert_eq!(served.end().await, [6, 6, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_named_and_costs_nothing_else() {
    if !tools_are_there() {
        return;
    }
    let served = Served::start(&["degrees"], |settings| settings.http.max_body = 65_536).await;
    let with = |key: &str, value: Value| {
        let mut tensor = steady_tensor();
        tensor[key] = value;
        tensor
    };
    let mut both = steady_tensor();
    both["parameters"] = json!({"binary_data_size": 128});
    let mut shared = steady_tensor();
    shared["parameters"] = json!({"shared_memory_region": "r"});
    let scalar = json!({"name": "x", "shape": [], "datatype": "FP32", "data": [1.0]});
    for (inputs, words) in [
        (json!([]), &["no inputs"][..]),
        (json!([steady_tensor(), steady_tensor()]), &["\"x\"", "twice"]),
        (json!([with("name", json!("y"))]), &["no input \"y\"", "it has x"]),
        (json!([with("datatype", json!("BYTES"))]), &["datatype is \"BYTES\""]),
        (json!([with("datatype", json!("FP16"))]), &["FP16 goes as binary data"]),
        (json!([with("shape", json!([1, 1, 2, 17]))]), &["32 elements", "34"]),
        (json!([with("shape", json!([0, 1, 2, 16]))]), &["32 elements", "0"]),
        (json!([with("shape", json!([-1, 1, 2, 16]))]), &["-1"]),
        (json!([with("shape", json!([1_u64 << 62, 1 << 30]))]), &["too large"]),
        (json!([with("data", json!([1.0, "a"]))]), &["numbers"]),
        (json!([scalar]), &["must begin with the batch"]),
        (json!([with("shape", json!(vec![1; 33]))]), &["33 axes, may have 32"]),
        (json!([both]), &["both data and binary_data_size"]),
        (json!([shared]), &["shared memory"]),
    ] {
        let message = error(&served.post(INFER, &request(inputs)).await, 400);
        assert!(words.iter().all(|word| message.contains(word)), "{message:?} has not {words:?}");
    }
    for (key, value, words) in [
        ("priority", json!(5), "priority is 5, must be 1 to 4"),
        ("timeout", json!(-1), "timeout is -1"),
        ("sample_rate", json!("fast"), "sample_rate is \"fast\""),
        ("session_id", json!(3), "session_id is 3"),
        ("binary_data_output", json!(1), "binary_data_output is 1"),
    ] {
        let body = json!({"parameters": {key: value}, "inputs": [steady_tensor()]});
        let message = error(&served.post(INFER, &body).await, 400);
        assert!(message.contains(words), "{message}");
    }
    let twice = json!({"inputs": [steady_tensor()], "outputs": [{"name": "position"}, {"name": "position"}]});
    assert!(error(&served.post(INFER, &twice).await, 400).contains("\"position\" is asked for twice"));
    // What the model does not take is a failure of the frame.
    let message =
        error(&served.post(INFER, &request(json!([with("shape", json!([1, 2, 1, 16]))]))).await, 400);
    assert!(message.contains("x"), "{message}");
    let binary = |length: &'static str, body: &'static str| {
        let headers = [("Inference-Header-Content-Length", length)];
        async move { call(served.address, "POST", INFER, &headers, body.as_bytes()).await }
    };
    for (length, body, words) in [
        ("x", "{}", "Content-Length is \"x\""),
        ("3", "{}", "the body has 2 bytes"),
        ("-1", "{}", "Content-Length is \"-1\""),
        ("99999999999999999999", "{}", "the body has 2 bytes"),
        ("1", "{}", "the JSON"),
        ("13", "{\"inputs\":[]}abc", "3 bytes are left"),
    ] {
        let message = error(&binary(length, body).await, 400);
        assert!(message.contains(words), "{message}");
    }
    for (method, path, status) in [
        ("POST", "/v2/models/none/infer", 404),
        ("GET", "/v2/models/none", 404),
        ("GET", "/v2/models/degrees/versions/2", 404),
        ("GET", "/v2/models/degrees/versions/../ready", 404),
        ("GET", "/v2/none", 404),
        ("GET", "/v2/models/%ff", 400),
        ("DELETE", "/v2/models/degrees", 405),
        ("GET", INFER, 405),
    ] {
        error(&call(served.address, method, path, &[], b"").await, status);
    }
    let typed = |content_type| [("Content-Type", content_type)];
    for content_type in ["text/plain", "application/msgpack", "application/x-www-form-urlencoded"] {
        error(&call(served.address, "POST", INFER, &typed(content_type), b"{}").await, 415);
    }
    error(&call(served.address, "POST", INFER, &[("Origin", "http://other.example")], b"{}").await, 403);
    error(&call(served.address, "POST", INFER, &[("Host", "other.example")], b"{}").await, 421);
    error(&call(served.address, "POST", INFER, &[], &vec![b' '; 70_000]).await, 413);
    assert_eq!(served.end().await, [1, 0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_frame_fails_a_request_and_no_other() {
    if !tools_are_there() {
        return;
    }
    let served = Served::start(&["poison"], |_| {}).await;
    let mut data = vec![0.5f32; 3 * 32];
    data[40] = 0.95;
    let shape = json!([3, 1, 2, 16]);
    let input = json!([{"name": "x", "shape": shape, "datatype": "FP32", "data": data}]);
    let (bad, good) = (request(input), request(json!([steady_tensor()])));
    let (bad, good) = tokio::join!(
        served.post("/v2/models/poison/infer", &bad),
        served.post("/v2/models/poison/infer", &good)
    );
    let message = error(&bad, 500);
    assert!(message.contains("frame 1 of the batch"), "{message}");
    assert_eq!(good.status, 200);
    assert_eq!(served.end().await, [4, 3, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_leaves_takes_no_frame_along() {
    if !tools_are_there() {
        return;
    }
    let served = Served::start(&["degrees"], |_| {}).await;
    let mut input = steady_tensor();
    input["shape"] = json!([20, 1, 2, 16]);
    input["data"] = json!(vec![0.5; 20 * 32]);
    let body = request(json!([input])).to_string();
    let head = format!(
        "POST {INFER} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n",
        served.address,
        body.len()
    );
    for n in 0..40u64 {
        let mut stream = tokio::net::TcpStream::connect(served.address).await.unwrap();
        stream.write_all((head.clone() + &body).as_bytes()).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_micros(100 * n)).await;
    }
    let [received, predictions, failures] = served.end().await;
    // Those of a request that was not read to its end never arrived.
    assert_eq!((received % 20, predictions, failures), (0, received, 0));
    assert!(received > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_token_every_call_needs_it() {
    if !tools_are_there() {
        return;
    }
    let served = Served::start(&["degrees"], |settings| settings.http.token = "secret".to_owned()).await;
    for path in ["/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/degrees"] {
        error(&call(served.address, "GET", path, &[], b"").await, 401);
        let with = call(served.address, "GET", path, &[("Authorization", "Bearer secret")], b"").await;
        assert_eq!(with.status, 200, "{path}");
    }
}
