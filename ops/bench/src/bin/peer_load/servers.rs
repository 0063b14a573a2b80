//! Starts what is measured: all sides at once, each with the same model.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use async_nats::Client;
use sferic_bench::responder::ANSWER_BYTES;
use tempfile::TempDir;

use crate::answer::Reading;
use crate::bare::Loop;
use crate::client::{Door, PATIENCE};
use crate::frames::Encoding;
use crate::processes::{Process, Roles, free_port};
use crate::side::Side;

/// Time for all sides to get ready.
const START: Duration = Duration::from_secs(180);

/// Time for one try whether a side is ready.
const TRY: Duration = Duration::from_secs(10);

/// What to start sides with.
pub struct Programs {
    /// The daemon.
    pub sferic: PathBuf,
    /// The interpreter with the peers' packages, and the folder of their programs.
    pub python: PathBuf,
    pub peers: PathBuf,
    pub nats_server: PathBuf,
    /// Of the one version of the model that is measured.
    pub bundle: PathBuf,
    /// A repository that holds nothing else.
    pub repository: PathBuf,
    pub model: String,
    /// Processes or threads of each side.
    pub workers: usize,
}

/// A side that answers.
pub struct Started {
    pub side: Side,
    pub roles: Roles,
    pub asked: Asked,
}

/// How a side gets its work.
pub enum Asked {
    Through(Door),
    Loop(Loop),
}

/// All processes, ended in the reverse order of their start when this is dropped.
pub struct Servers {
    processes: Vec<Process>,
    client: Client,
    url: String,
    nats: u32,
    folder: TempDir,
    /// The daemon's pid and its port of HTTP, once it is there.
    sferic: Option<(u32, u16)>,
    /// Redis' pid and port.
    redis: Option<(u32, u16)>,
    /// Which processes must have got ready, and how that is seen.
    expected: Vec<(u32, Door)>,
}

impl Servers {
    /// Starts a nats-server.
    ///
    /// # Errors
    /// There is none, or it does not start.
    pub async fn new(programs: &Programs) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let port = free_port()?;
        let mut command = Command::new(&programs.nats_server);
        command.args(["--addr", "127.0.0.1", "--port", &port.to_string()]);
        let process = Process::start("nats-server", folder.path(), &mut command)?;
        let (url, nats) = (format!("nats://127.0.0.1:{port}"), process.pid());
        let options =
            || async_nats::ConnectOptions::new().request_timeout(Some(PATIENCE)).connection_timeout(TRY);
        let began = Instant::now();
        let client = loop {
            match options().connect(&url).await {
                Ok(client) => break client,
                Err(error) if began.elapsed() > TRY => {
                    return Err(error).context("nats-server does not get ready");
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        let (processes, expected) = (vec![process], Vec::new());
        Ok(Self { processes, client, url, nats, folder, sferic: None, redis: None, expected })
    }

    /// Starts a side; it need not be ready yet.
    ///
    /// # Errors
    /// A program is missing.
    pub fn start(&mut self, side: Side, programs: &Programs) -> anyhow::Result<Started> {
        let (roots, door) = match side {
            Side::Sferic => {
                let (pid, _) = self.sferic(programs)?;
                (vec![pid], Door::nats(&self.client, "iq.frames.peers", Reading::MessagePack)?)
            }
            Side::SfericHttp => {
                let (pid, port) = self.sferic(programs)?;
                (vec![pid], Door::http(port, "/api/v1/inference/predict", Encoding::MessagePack)?)
            }
            Side::NatsPy | Side::NatsPyBatch => self.nats_py(side, programs)?,
            Side::Mosec | Side::MosecBatch => {
                let (port, internal) = (free_port()?, self.folder.path().join(side.name()));
                let mut command = python(programs, "mosec_server.py", side);
                command.args(["--address", "127.0.0.1", "--port", &port.to_string(), "--timeout", "60000"]);
                command.args(["--log-level", "warning", "--path"]).arg(internal);
                self.http(side, command, port, "/inference", Encoding::MessagePack)?
            }
            Side::Litserve | Side::LitserveBatch => {
                let port = free_port()?;
                let mut command = python(programs, "litserve_server.py", side);
                command.arg(port.to_string());
                self.http(side, command, port, "/predict", Encoding::MessagePack)?
            }
            Side::Fastapi | Side::FastapiLists => {
                let ((_, redis), port) = (self.redis()?, free_port()?);
                let mut command = python(programs, "fastapi_server.py", side);
                command.arg(port.to_string()).env("PEER_REDIS", redis.to_string());
                let lists = side == Side::FastapiLists;
                let encoding = if lists { Encoding::JsonLists } else { Encoding::JsonBase64 };
                self.http(side, command, port, "/predict", encoding)?
            }
            Side::Echo => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["respond", &self.url, "echo"]);
                let pid = self.process(side.name(), &mut command)?;
                (vec![pid], Door::nats(&self.client, "echo", Reading::Bytes(ANSWER_BYTES))?)
            }
            Side::Run | Side::RunBatch | Side::FeaturesRun | Side::FeaturesRunBatch => {
                let features = matches!(side, Side::FeaturesRun | Side::FeaturesRunBatch);
                let started = Loop::start(&programs.bundle, programs.workers, side.batch(), features)?;
                return Ok(Started { side, roles: started.roles(), asked: Asked::Loop(started) });
            }
        };
        let first = roots.first().copied();
        let mut roles = Roles::from([("server", BTreeSet::from_iter(roots))]);
        if matches!(side, Side::Sferic | Side::SfericHttp | Side::NatsPy | Side::NatsPyBatch | Side::Echo) {
            roles.insert("nats", BTreeSet::from([self.nats]));
        }
        if let (Side::Fastapi | Side::FastapiLists, Some((pid, _))) = (side, self.redis) {
            roles.insert("redis", BTreeSet::from([pid]));
        }
        self.expected.extend(first.map(|pid| (pid, door.clone())));
        Ok(Started { side, roles, asked: Asked::Through(door) })
    }

    /// Waits until all that was started answers.
    ///
    /// # Errors
    /// One ends or does not get ready; says what it printed.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        for (pid, door) in std::mem::take(&mut self.expected) {
            loop {
                let answer = async { door.user(0).await?.ask(None).await };
                let failed = match tokio::time::timeout(TRY, answer).await {
                    Ok(Ok(_)) => break,
                    Ok(Err(error)) => format!("{error:#}"),
                    Err(_) => format!("no answer within {TRY:?}"),
                };
                let process = self.processes.iter_mut().find(|process| process.pid() == pid);
                let process = process.context("no such process")?;
                process.check()?;
                if began.elapsed() > START {
                    let (name, printed) = (process.name(), process.printed());
                    bail!("{name} does not get ready: {failed}; it printed: {printed}");
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        Ok(())
    }

    fn process(&mut self, name: String, command: &mut Command) -> anyhow::Result<u32> {
        let process = Process::start(&name, self.folder.path(), command)?;
        let pid = process.pid();
        self.processes.push(process);
        Ok(pid)
    }

    fn http(
        &mut self,
        side: Side,
        mut command: Command,
        port: u16,
        path: &str,
        encoding: Encoding,
    ) -> anyhow::Result<(Vec<u32>, Door)> {
        let pid = self.process(side.name(), &mut command)?;
        Ok((vec![pid], Door::http(port, path, encoding)?))
    }

    /// The daemon, without a cache and with as many sessions as the others have workers.
    fn sferic(&mut self, programs: &Programs) -> anyhow::Result<(u32, u16)> {
        if let Some(started) = self.sferic {
            return Ok(started);
        }
        let port = free_port()?;
        let (listen, sessions) = (format!("127.0.0.1:{port}"), programs.workers.to_string());
        let mut command = Command::new(&programs.sferic);
        command.args(["run", "--url", &self.url]);
        let settings = [
            ("MODELS__DEFAULT", programs.model.as_str()),
            ("HTTP__LISTEN", &listen),
            ("CACHE__ENABLED", "false"),
            ("POOL__SESSIONS", &sessions),
            ("LIMITS__TIMEOUT", "60s"),
            ("TELEMETRY__LOG", "warn"),
        ];
        for (key, value) in settings {
            command.env(format!("SFERIC__{key}"), value);
        }
        command.env("SFERIC__MODELS__REPOSITORY", &programs.repository);
        let pid = self.process("sferic".to_owned(), &mut command)?;
        Ok(*self.sferic.insert((pid, port)))
    }

    fn redis(&mut self) -> anyhow::Result<(u32, u16)> {
        if let Some(started) = self.redis {
            return Ok(started);
        }
        let port = free_port()?;
        let mut command = Command::new("redis-server");
        command.args([
            "--bind",
            "127.0.0.1",
            "--port",
            &port.to_string(),
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        command.arg("--dir").arg(self.folder.path());
        let pid = self.process("redis-server".to_owned(), &mut command);
        let pid = pid.context("install it with `ops/setup debian redis-server`, or leave out fastapi")?;
        Ok(*self.redis.insert((pid, port)))
    }

    /// One process a worker, each of which must have got ready.
    fn nats_py(&mut self, side: Side, programs: &Programs) -> anyhow::Result<(Vec<u32>, Door)> {
        let (subject, mut pids) = (format!("peers.{}", side.name()), Vec::new());
        for worker in 0..programs.workers {
            let (name, own) = (format!("{}-{worker}", side.name()), format!("{subject}.{worker}"));
            let mut command = python(programs, "nats_worker.py", side);
            command.args([&self.url, &subject, &side.batch().to_string(), &own]);
            let pid = self.process(name, &mut command)?;
            self.expected.push((pid, Door::nats(&self.client, &own, Reading::MessagePack)?));
            pids.push(pid);
        }
        Ok((pids, Door::nats(&self.client, &subject, Reading::MessagePack)?))
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        while self.processes.pop().is_some() {}
    }
}

/// A peer's program, whose libraries have one thread each.
fn python(programs: &Programs, file: &str, side: Side) -> Command {
    let mut command = Command::new(&programs.python);
    command.arg(programs.peers.join(file));
    for library in ["OMP", "OPENBLAS", "MKL"] {
        command.env(format!("{library}_NUM_THREADS"), "1");
    }
    command
        .env("PEER_BUNDLE", &programs.bundle)
        .env("PEER_BATCH", side.batch().to_string())
        .env("PEER_WORKERS", programs.workers.to_string())
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Copies one version of a model into a repository that holds nothing else: a daemon loads all there are.
///
/// # Errors
/// It is not there.
pub fn alone(repository: &Path, model: &str, folder: &Path) -> anyhow::Result<(String, PathBuf)> {
    let there = sferic_models::Repository::new(repository);
    let versions = there.versions(model);
    let versions =
        versions.map_err(|error| anyhow::anyhow!("{}: {error}", repository.join(model).display()))?;
    let (version, from) = versions.into_iter().next_back().context("no version")?;
    let to = folder.join(model).join(&version);
    sferic_bench::copy_folder(&from, &to)?;
    Ok((version, to))
}
