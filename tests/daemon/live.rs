//! `sferic publish` of live radio: standard input, a fake rtl_tcp server, ZeroMQ sockets of the real library.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use async_nats::Subscriber;
use futures::StreamExt;
use jiff::Timestamp;
use rmpv::Value;
use sferic::nats::PrivateServer;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use crate::support::*;

const HEADER: &[u8] = b"RTL0\0\0\0\x05\0\0\0\x1d";

fn ramp(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| (n * 7 + n / 256) as u8).collect()
}

/// `sferic publish` with these arguments, its standard error kept.
fn publishing(url: &str, arguments: &[&str]) -> Child {
    let mut command = sferic(&["publish", "--url", url]);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

async fn ended(publisher: Child) -> (i32, String, String) {
    let output = tokio::time::timeout(PATIENCE, publisher.wait_with_output()).await.expect("it does not end");
    let output = output.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

async fn interrupt(publisher: &Child) {
    let pid = publisher.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &pid]).status().await.unwrap().success());
}

/// The answers of a daemon by seq, without what differs between any two runs.
fn answers(out: &str) -> Vec<(u64, serde_json::Value)> {
    let mut answers: Vec<_> = out
        .lines()
        .map(|line| {
            let outcome: serde_json::Value = serde_json::from_str(line).unwrap();
            (outcome["seq"].as_u64().unwrap(), outcome["tensors"].clone())
        })
        .collect();
    answers.sort_by_key(|(seq, _)| *seq);
    answers
}

async fn frame(frames: &mut Subscriber) -> Value {
    let frame = tokio::time::timeout(PATIENCE, frames.next()).await.expect("no frame comes").unwrap();
    rmp_serde::from_slice(&frame.payload).unwrap()
}

fn bytes(frame: &Value) -> &[u8] {
    frame["samples"].as_slice().unwrap()
}

fn time(frame: &Value) -> Timestamp {
    frame["datetime"].as_str().unwrap().parse().unwrap()
}

/// A RIFF file of these samples.
fn wav(tag: u16, bits: u16, samples: &[u8]) -> Vec<u8> {
    let block = 2 * bits / 8;
    let format = [
        [tag, 2].map(u16::to_le_bytes).concat(),
        [48_000, 48_000 * u32::from(block)].map(u32::to_le_bytes).concat(),
        [block, bits].map(u16::to_le_bytes).concat(),
    ]
    .concat();
    let chunk = |id: &[u8], body: &[u8]| [id, &(body.len() as u32).to_le_bytes(), body].concat();
    chunk(b"RIFF", &[b"WAVE".as_slice(), &chunk(b"fmt ", &format), &chunk(b"data", samples)].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_in_gives_the_same_answers_as_sigmf() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["tensors"], &[("LIMITS__TIMEOUT", "20s")]).await;
    let url = world.server.url();
    let folder = TempDir::new().unwrap();
    let samples = ramp(2 * 16 * 40);
    let sigmf = |name: &str, datatype: &str, samples: &[u8]| {
        let meta = folder.path().join(format!("{name}.sigmf-meta"));
        let text = format!(
            r#"{{"global": {{"core:datatype": "{datatype}", "core:sample_rate": 48000}}, "captures": []}}"#
        );
        std::fs::write(&meta, text).unwrap();
        std::fs::write(meta.with_extension("sigmf-data"), samples).unwrap();
        meta
    };
    let publish = async |input: &Path, more: &[&str]| {
        let arguments = ["publish", "--url", url, "--frame-samples", "16", "--wait", "--json"];
        let (code, out, err) = output(sferic(&arguments).args(more).arg(input)).await;
        assert_eq!(code, 0, "{err}");
        answers(&out)
    };
    let expected = publish(&sigmf("cu8", "cu8", &samples), &[]).await;
    assert_eq!(expected.len(), 40);

    // A pipe, in odd portions.
    let arguments =
        ["-", "--frame-samples", "16", "--datatype", "cu8", "--sample-rate", "48k", "--wait", "--json"];
    let mut publisher = publishing(url, &arguments);
    let mut stdin = publisher.stdin.take().unwrap();
    for portion in samples.chunks(333) {
        stdin.write_all(portion).await.unwrap();
        stdin.flush().await.unwrap();
    }
    drop(stdin);
    let (code, out, err) = ended(publisher).await;
    assert_eq!((code, answers(&out)), (0, expected.clone()), "{err}");
    assert!(err.contains("stdin: 0 frames dropped"), "{err}");

    // rtl_tcp.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("rtl_tcp://{}?sample_rate=48k", listener.local_addr().unwrap());
    let publisher = publishing(url, &[&address, "--frame-samples", "16", "--wait", "--json"]);
    let (mut radio, _) = listener.accept().await.unwrap();
    radio.write_all(&[HEADER, &samples].concat()).await.unwrap();
    let mut outcomes = 0;
    let mut publisher = publisher;
    let mut lines = BufReader::new(publisher.stdout.take().unwrap()).lines();
    let mut out = String::new();
    while outcomes < 40 {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
        out += &(line + "\n");
        outcomes += 1;
    }
    interrupt(&publisher).await;
    let (code, _, err) = ended(publisher).await;
    assert_eq!((code, answers(&out)), (0, expected.clone()), "{err}");

    // WAV, of each kind of sample.
    let write = |name: &str, bytes: Vec<u8>| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    assert_eq!(publish(&write("8.wav", wav(1, 8, &samples)), &[]).await, expected);
    let wide = ramp(4 * 2 * 16 * 4);
    for (bits, datatype) in [(16, "ci16_le"), (32, "ci32_le")] {
        let other = publish(&sigmf("wide", datatype, &wide), &[]).await;
        assert_eq!(publish(&write("wide.wav", wav(1, bits, &wide)), &[]).await, other, "{datatype}");
    }
    let packed: Vec<u8> = wide.as_chunks::<4>().0.iter().flat_map(|[_, b, c, d]| [*b, *c, *d]).collect();
    let upper: Vec<u8> = wide.as_chunks::<4>().0.iter().flat_map(|[_, b, c, d]| [0, *b, *c, *d]).collect();
    let other = publish(&sigmf("upper", "ci32_le", &upper), &[]).await;
    assert_eq!(publish(&write("24.wav", wav(1, 24, &packed)), &[]).await, other);
    let floats: Vec<u8> = (0..2 * 16 * 4).flat_map(|n| (n as f32 / 200.0).to_le_bytes()).collect();
    let other = publish(&sigmf("floats", "cf32_le", &floats), &[]).await;
    assert_eq!(publish(&write("floats.wav", wav(3, 32, &floats)), &[]).await, other);
    let ledger = world.ledger().await;
    assert_eq!((ledger.failures, ledger.lost), (0, 0));
}

#[tokio::test]
async fn a_receiver_is_set_and_waited_for() {
    if !tools_are_there() {
        return;
    }
    let server = PrivateServer::start(&[]).await.unwrap();
    let client = client(server.url()).await;
    let mut frames = client.subscribe("iq.frames.>").await.unwrap();
    client.flush().await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("rtl_tcp://{address}?frequency=433.92M&sample_rate=1.024M&gain=28&ppm=1");
    let arguments =
        [url.as_str(), "--frame-samples", "1024", "--source", "roof.rx1", "--position", "45.06,7.66,240"];
    let publisher = publishing(server.url(), &arguments);
    let accepted = async || {
        let (mut radio, _) = tokio::time::timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        radio.write_all(HEADER).await.unwrap();
        let mut commands = [0; 25];
        radio.read_exact(&mut commands).await.unwrap();
        assert_eq!(commands[..5], [2, 0, 0x0f, 0xa0, 0]);
        assert_eq!(commands[10..15], [1, 0x19, 0xdd, 0x18, 0]);
        radio
    };
    let send = async |radio: &mut TcpStream, first: u8, bytes: usize| {
        radio.write_all(&(0..bytes).map(|n| first.wrapping_add(n as u8)).collect::<Vec<_>>()).await.unwrap();
        radio.flush().await.unwrap();
    };
    let mut radio = accepted().await;
    let before = Timestamp::now();
    // Two frames and a half.
    send(&mut radio, 0, 5120).await;
    for seq in 0..2u64 {
        let frame = frame(&mut frames).await;
        assert_eq!((frame["seq"].as_u64(), bytes(&frame).len(), bytes(&frame)[0]), (Some(seq), 2048, 0));
        assert_eq!(
            (frame["frequency"].as_f64(), frame["sample_rate"].as_f64()),
            (Some(433.92e6), Some(1.024e6))
        );
        assert_eq!(
            frame["geolocation"]["coordinates"],
            Value::Array(vec![7.66.into(), 45.06.into(), 240.0.into()])
        );
        let after = time(&frame).duration_since(before).as_secs_f64();
        assert!((-0.006..40.0).contains(&after), "{after}");
    }
    drop(radio);
    let mut radio = accepted().await;
    send(&mut radio, 100, 2048).await;
    let frame = frame(&mut frames).await;
    // No half of a frame from before.
    assert_eq!((frame["seq"].as_u64(), bytes(&frame)[0]), (Some(2), 100));
    interrupt(&publisher).await;
    let (code, _, err) = ended(publisher).await;
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("connected, R820T, 29 gains"), "{err}");
    assert!(err.contains("has ended the connection; waiting for it"), "{err}");
    assert!(
        err.contains("roof.rx1: 0 frames dropped, 1 stops of the source, 512 samples made no whole"),
        "{err}"
    );
}

#[tokio::test]
async fn what_is_no_rtl_tcp_is_refused_with_its_bytes() {
    if !tools_are_there() {
        return;
    }
    let server = PrivateServer::start(&[]).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("rtl_tcp://{}?sample_rate=1M", listener.local_addr().unwrap());
    let publisher = publishing(server.url(), &[&address]);
    let (mut other, _) = tokio::time::timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    other.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await.unwrap();
    let (code, out, err) = ended(publisher).await;
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains("is no rtl_tcp") && err.contains("(SSH-2.0-Open)"), "{err}");
}

#[tokio::test]
async fn a_source_that_is_something_else_leaves_the_others_alone() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["tensors"], &[("LIMITS__TIMEOUT", "20s")]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("rtl_tcp://{}?sample_rate=1M", listener.local_addr().unwrap());
    let arguments = [&address, "-", "--frame-samples", "16", "--datatype", "cu8", "--sample-rate", "48k"];
    let mut publisher = publishing(world.server.url(), &[&arguments[..], &["--wait", "--json"]].concat());
    let (mut other, _) = tokio::time::timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    other.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await.unwrap();
    // What it is has been said before the other source sends.
    let mut said = String::new();
    let mut talk = tokio::io::BufReader::new(publisher.stderr.take().unwrap());
    while !said.contains("the other sources go on") {
        let read = tokio::io::AsyncBufReadExt::read_line(&mut talk, &mut said);
        assert!(tokio::time::timeout(PATIENCE, read).await.expect("it says nothing").unwrap() > 0, "{said}");
    }
    let mut stdin = publisher.stdin.take().unwrap();
    stdin.write_all(&ramp(2 * 16 * 40)).await.unwrap();
    drop(stdin);
    let rest = tokio::io::AsyncReadExt::read_to_string(&mut talk, &mut said);
    tokio::time::timeout(2 * PATIENCE, rest).await.expect("it does not end").unwrap();
    let output = publisher.wait_with_output().await.unwrap();
    assert_eq!(answers(&String::from_utf8_lossy(&output.stdout)).len(), 40, "{said}");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.trim_end().lines().last().unwrap().contains("is no rtl_tcp"), "{said}");
}

#[tokio::test]
async fn a_daemon_is_waited_for_and_quiet_frames_are_kept_back() {
    if !tools_are_there() {
        return;
    }
    let server = PrivateServer::start(&[]).await.unwrap();
    let client = client(server.url()).await;
    let arguments = [
        "-",
        "--frame-samples",
        "16",
        "--datatype",
        "ci8",
        "--sample-rate",
        "48k",
        "--squelch",
        "-20",
        "--patience",
        "0s",
    ];
    let mut publisher = publishing(server.url(), &arguments);
    let mut stdin = publisher.stdin.take().unwrap();
    let (loud, quiet) = ([100; 32], [3; 32]);
    stdin.write_all(&[loud, quiet, quiet, loud].concat()).await.unwrap();
    let mut said = BufReader::new(publisher.stderr.take().unwrap()).lines();
    let line = tokio::time::timeout(PATIENCE, said.next_line()).await.unwrap().unwrap().unwrap();
    assert!(line.contains("no daemon listens on iq.frames.stdin yet; waiting for one"), "{line}");
    let mut frames = client.subscribe("iq.frames.>").await.unwrap();
    client.flush().await.unwrap();
    for seq in 0..2u64 {
        let frame = frame(&mut frames).await;
        assert_eq!((frame["seq"].as_u64(), bytes(&frame)), (Some(seq), &loud[..]));
    }
    // The daemon goes.
    frames.unsubscribe().await.unwrap();
    client.flush().await.unwrap();
    for _ in 0..2 {
        stdin.write_all(&loud).await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    drop(stdin);
    let mut err = String::new();
    while let Some(line) = tokio::time::timeout(PATIENCE, said.next_line()).await.unwrap().unwrap() {
        err += &(line + "\n");
    }
    // The first of the others finds nobody, and the second waits for somebody, as long as the source lasts.
    assert_eq!(publisher.wait().await.unwrap().code(), Some(1), "{err}");
    assert!(err.contains("3 frames sent"), "{err}");
    assert!(err.contains("1 frames had no subscriber"), "{err}");
    assert_eq!(err.matches("no daemon listens on iq.frames.stdin yet").count(), 1, "{err}");
    assert!(err.contains("2 frames were kept back, at or below the squelch of -20 dB"), "{err}");
}

/// A ZeroMQ socket of the real library, in a process that sends on request.
struct Sink {
    process: Child,
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
}

impl Sink {
    fn start(python: &Path, kind: &str, form: &str, port: u16, messages: usize) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/daemon/gnu_radio.py");
        let mut process = Command::new(python)
            .args([script, kind, form, &port.to_string(), &messages.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    async fn until(&mut self, said: &str) {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("it says nothing");
        assert_eq!(line.unwrap().as_deref(), Some(said));
    }

    async fn go_on(&mut self) {
        self.process.stdin.as_mut().unwrap().write_all(b"\n").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sinks_of_gnu_radio_are_read() {
    let python = sferic_tools::places("judges/radio/bin/python").find(|path| path.exists());
    let (Some(python), true) = (python, tools_are_there()) else {
        return sferic_tools::skip("pyzmq is not there; run ops/setup judges");
    };
    let server = PrivateServer::start(&[]).await.unwrap();
    let client = client(server.url()).await;
    let mut frames = client.subscribe("iq.frames.>").await.unwrap();
    client.flush().await.unwrap();
    for (kind, form) in [("PUB", "plain"), ("PUB", "tagged"), ("PUSH", "plain"), ("PUSH", "tagged")] {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("zmq+tcp://127.0.0.1:{port}?datatype=ci16_le&sample_rate=1M&frequency=868M");
        let publisher = publishing(server.url(), &[&address, "--frame-samples", "100", "--source", "gr"]);
        // Sample by sample what was sent, also where the sink goes and comes back.
        let mut seq = 0u64;
        for round in 0..2 {
            let mut sink = Sink::start(&python, kind, form, port, 20);
            for half in 0..2 {
                sink.until("ready").await;
                sink.go_on().await;
                for index in 6 * half..6 * half + 6 {
                    let frame = frame(&mut frames).await;
                    assert_eq!(frame["seq"].as_u64(), Some(seq), "{kind} {form}, round {round}");
                    let first = index as u16 * 100;
                    let expected: Vec<u8> =
                        (first..first + 100).flat_map(|n| [n, n + 1]).flat_map(u16::to_le_bytes).collect();
                    assert_eq!(bytes(&frame), expected, "{kind} {form}, round {round}");
                    assert_eq!(frame["frequency"].as_f64(), Some(868e6));
                    seq += 1;
                }
            }
            sink.until("sent").await;
        }
        interrupt(&publisher).await;
        let (code, _, err) = ended(publisher).await;
        assert_eq!(code, 0, "{err}");
        assert!(err.contains(&format!("connected, {kind}")), "{err}");
        assert!(err.contains("gr: 0 frames dropped"), "{err}");
    }
}
