//! What no side can pass: loops of runs in a process of their own, with and without features, and a responder
//! that only answers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Subcommand;
use ort::session::Session;
use ort::value::TensorRef;
use serde::{Deserialize, Serialize};
use sferic_bench::responder::{self, Answer};
use sferic_features::Extractor;
use sferic_load::Histogram;
use sferic_models::{Bundle, InputSource};
use sferic_onnx::Runtime;
use sferic_samples::{Datatype, Samples};
use sferic_scene::FrameSimulator;

use crate::client::PATIENCE;
use crate::frames::SAMPLES;
use crate::measurement::Measured;
use crate::processes::{Roles, used};

/// What this program is when it is started by itself.
#[derive(Subcommand)]
pub enum Role {
    /// Answers every message on a subject with as many bytes as a prediction has.
    #[command(hide = true)]
    Respond { url: String, subject: String },
    /// Runs a model as often as it can, for so many seconds for each line of standard input.
    #[command(hide = true)]
    Loop {
        bundle: PathBuf,
        #[arg(long)]
        threads: usize,
        #[arg(long)]
        batch: usize,
        /// Compute the features of each frame first.
        #[arg(long)]
        features: bool,
    },
}

impl Role {
    /// Does it until it is ended.
    ///
    /// # Errors
    /// It cannot.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Respond { url, subject } => responder::respond(&url, &subject, Answer::Short).await,
            Self::Loop { bundle, threads, batch, features } => run_loop(&bundle, threads, batch, features),
        }
    }
}

/// What a loop says of a turn.
#[derive(Serialize, Deserialize)]
struct Turn {
    frames: u64,
    seconds: f64,
    cpu_s: f64,
    /// Of runs.
    latency: Histogram,
}

fn run_loop(bundle: &Path, threads: usize, batch: usize, features: bool) -> anyhow::Result<()> {
    let mut workers = Vec::new();
    for n in 0..threads {
        workers.push(Worker::new(bundle, batch, features, n as u64)?);
    }
    for worker in &mut workers {
        worker.frames()?;
    }
    println!("ready");
    for line in std::io::stdin().lines() {
        let time = Duration::try_from_secs_f64(line?.trim().parse()?)?;
        let (began, cpu) = (Instant::now(), processor_time());
        let end = began + time;
        let done = std::thread::scope(|scope| {
            let threads: Vec<_> =
                workers.iter_mut().map(|worker| scope.spawn(move || worker.until(end))).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, anyhow::Result<Histogram>>| {
                thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?
            };
            threads.into_iter().map(join).collect::<anyhow::Result<Vec<_>>>()
        })?;
        let mut latency = Histogram::new(3)?;
        for one in &done {
            latency.merge(one)?;
        }
        let seconds = began.elapsed().as_secs_f64();
        let cpu_s = (processor_time() - cpu).as_secs_f64();
        let turn = Turn { frames: latency.count() * batch as u64, seconds, cpu_s, latency };
        println!("{}", serde_json::to_string(&turn)?);
    }
    Ok(())
}

/// Of this process, also of threads that have ended.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// One thread's session and features.
struct Worker {
    session: Session,
    extractor: Option<Extractor>,
    samples: Vec<u8>,
    shape: [usize; 4],
    input: Vec<f32>,
}

impl Worker {
    fn new(folder: &Path, batch: usize, features: bool, pattern: u64) -> anyhow::Result<Self> {
        let bundle = Bundle::read(folder)?;
        let [input] = &bundle.inputs[..] else { bail!("the model has not one input") };
        let InputSource::Features(config) = &input.source else { bail!("the model takes no features") };
        let mut extractor = Extractor::new(config, Some(250e3))?;
        let [channels, rows, columns] = extractor.shape(SAMPLES)?;
        let runtime = Runtime::open(None)?;
        let error = |error| anyhow::anyhow!("{error}");
        let builder = Session::builder(runtime.environment())?.with_intra_threads(1).map_err(error)?;
        let mut builder = builder.with_intra_op_spinning(false).map_err(error)?;
        let session = builder.commit_from_file(folder.join("model.onnx"))?;
        let samples = FrameSimulator::new(1, SAMPLES).frame(pattern).bytes();
        let mut input = vec![0.0; batch * channels * rows * columns];
        for frame in input.chunks_exact_mut(channels * rows * columns) {
            extractor.extract(&Samples::new(&samples, Datatype::Cf32Le, channels)?, frame)?;
        }
        let shape = [batch, channels, rows, columns];
        Ok(Self { session, extractor: features.then_some(extractor), samples, shape, input })
    }

    /// One run.
    fn frames(&mut self) -> anyhow::Result<()> {
        let [batch, channels, ..] = self.shape;
        if let Some(extractor) = &mut self.extractor {
            let length = self.input.len() / batch;
            for frame in self.input.chunks_exact_mut(length) {
                extractor.extract(&Samples::new(&self.samples, Datatype::Cf32Le, channels)?, frame)?;
            }
        }
        let input = TensorRef::from_array_view((self.shape, &self.input[..]))?;
        self.session.run(ort::inputs![input])?;
        Ok(())
    }

    /// Runs until then, and how long each took.
    fn until(&mut self, end: Instant) -> anyhow::Result<Histogram> {
        let mut latency = Histogram::new(3)?;
        loop {
            let began = Instant::now();
            if began >= end {
                return Ok(latency);
            }
            self.frames()?;
            latency.record(began.elapsed());
        }
    }
}

/// A loop in its own process, ended when this is dropped.
pub struct Loop {
    child: Child,
    lines: ChildStdin,
    said: Receiver<String>,
}

impl Loop {
    /// Starts one and waits until it is ready.
    ///
    /// # Errors
    /// It does not get ready; it has said why.
    pub fn start(bundle: &Path, threads: usize, batch: usize, features: bool) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("loop").arg(bundle);
        command.args(["--threads", &threads.to_string(), "--batch", &batch.to_string()]);
        if features {
            command.arg("--features");
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a loop of runs")?;
        let lines = child.stdin.take().context("no standard input")?;
        let output = BufReader::new(child.stdout.take().context("no standard output")?);
        let (sender, said) = channel();
        // Ends with the process; a pipe by itself is waited for without a bound.
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let this = Self { child, lines, said };
        let ready = this.line(Duration::ZERO)?;
        ensure!(ready == "ready", "the loop of runs does not get ready: {ready:?}");
        Ok(this)
    }

    /// Its processes.
    pub fn roles(&self) -> Roles {
        Roles::from([("server", BTreeSet::from([self.child.id()]))])
    }

    /// A turn.
    ///
    /// # Errors
    /// It has ended.
    pub fn turn(&mut self, time: Duration) -> anyhow::Result<Measured> {
        writeln!(self.lines, "{}", time.as_secs_f64()).context("the loop of runs has ended")?;
        let turn: Turn = serde_json::from_str(&self.line(time)?)?;
        let cpu_s = BTreeMap::from([("server".to_owned(), turn.cpu_s)]);
        let rss_mib = used(&self.roles())?.resident_mib();
        Measured::new(turn.frames, turn.seconds, &turn.latency, cpu_s, rss_mib)
    }

    /// What it says next, which it has so much time for beside what it takes to start.
    fn line(&self, time: Duration) -> anyhow::Result<String> {
        self.said.recv_timeout(time + PATIENCE).context("the loop of runs has ended or says nothing")
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
