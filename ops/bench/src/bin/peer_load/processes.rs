//! Servers as processes: started with a log of their own, ended by pid with all that they have started, and
//! what they use.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use sferic_bench::usage::Usage;

/// Time to end by itself after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);

/// A server, ended when this is dropped.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command. What it prints goes into a file of `folder`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(name: &str, folder: &Path, command: &mut Command) -> anyhow::Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command
            // A group of its own, by which its children are found when it has ended before them.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// What it was started as.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it runs.
    ///
    /// # Errors
    /// It has ended; says what it printed last.
    pub fn check(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        bail!("{} has ended, {status}; it printed: {}", self.name, self.printed())
    }

    /// The end of what it printed.
    pub fn printed(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(2000)..]).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut tree = tree([self.pid()]);
        if matches!(self.child.try_wait(), Ok(None)) {
            signal(self.pid(), "TERM");
            let began = Instant::now();
            while matches!(self.child.try_wait(), Ok(None)) && began.elapsed() < GRACE {
                std::thread::park_timeout(Duration::from_millis(20));
            }
        }
        // Its children by their pids too: where it did not end them they are nobody's.
        let group = all().into_iter().filter(|(_, stat)| stat.group == self.pid());
        tree.extend(group.map(|(pid, stat)| (pid, stat.started)));
        for (pid, started) in tree {
            if stat(pid).is_some_and(|stat| stat.started == started) {
                signal(pid, "KILL");
            }
        }
        let _ = self.child.wait();
    }
}

/// By the shell, which every system has.
fn signal(pid: u32, signal: &str) {
    let mut command = Command::new("sh");
    command.args(["-c", "kill -s \"$0\" \"$1\"", signal, &pid.to_string()]);
    let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// Of a process, from Linux's `/proc`.
struct Stat {
    parent: u32,
    group: u32,
    /// In clock ticks since boot; with the pid it names a process for good.
    started: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the name, may hold spaces.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |at: usize| fields.get(at)?.parse().ok();
    Some(Stat { parent: field(1)? as u32, group: field(2)? as u32, started: field(19)? })
}

/// All processes there are.
fn all() -> BTreeMap<u32, Stat> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?))).collect()
}

/// These processes and all that come from them, with the time each was started.
fn tree(roots: impl IntoIterator<Item = u32>) -> BTreeMap<u32, u64> {
    let there = all();
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (pid, stat) in &there {
        children.entry(stat.parent).or_default().push(*pid);
    }
    let (mut tree, mut left) = (BTreeMap::new(), Vec::from_iter(roots));
    while let Some(pid) = left.pop() {
        if let Some(stat) = there.get(&pid)
            && tree.insert(pid, stat.started).is_none()
        {
            left.extend(children.get(&pid).into_iter().flatten());
        }
    }
    tree
}

/// What groups of processes have used, by the group's name.
pub struct Used(BTreeMap<&'static str, (f64, u64)>);

/// The processes of a side: of a role as `server` or `nats` the roots of their trees.
pub type Roles = BTreeMap<&'static str, BTreeSet<u32>>;

/// Processor time and memory of these roles and of this program, as `client`.
///
/// # Errors
/// A root has ended.
pub fn used(roles: &Roles) -> anyhow::Result<Used> {
    let this = ("client", BTreeSet::from([std::process::id()]));
    let mut used = BTreeMap::new();
    for (role, roots) in roles.iter().map(|(role, roots)| (*role, roots)).chain([(this.0, &this.1)]) {
        let pids: Vec<u32> = if role == this.0 {
            roots.iter().copied().collect()
        } else {
            tree(roots.iter().copied()).into_keys().collect()
        };
        let (mut cpu_s, mut bytes) = (0.0, 0);
        for pid in pids {
            match Usage::of(pid) {
                Ok(usage) => {
                    cpu_s += usage.cpu_s;
                    bytes += usage.resident_bytes;
                }
                Err(error) if roots.contains(&pid) => {
                    return Err(error.context(format!("{role}: process {pid} has ended")));
                }
                // A child may come and go.
                Err(_) => {}
            }
        }
        used.insert(role, (cpu_s, bytes));
    }
    Ok(Used(used))
}

impl Used {
    /// Seconds of processor time since `earlier`, by role.
    pub fn cpu_since(&self, earlier: &Self) -> BTreeMap<String, f64> {
        let since = |(role, (cpu_s, _)): (&&'static str, &(f64, u64))| {
            let before = earlier.0.get(role).map_or(0.0, |(cpu_s, _)| *cpu_s);
            ((*role).to_owned(), cpu_s - before)
        };
        self.0.iter().map(since).collect()
    }

    /// Resident memory by role, MiB.
    pub fn resident_mib(&self) -> BTreeMap<String, f64> {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        self.0.iter().map(|(role, (_, bytes))| ((*role).to_owned(), mib(*bytes))).collect()
    }
}

/// A port that is free now; nothing else says which one a server would take.
///
/// # Errors
/// There is none.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ended_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' TERM; sleep 600 & sleep 600 & echo up; wait; wait"]);
        let mut process = Process::start("shell", folder.path(), &mut command).unwrap();
        process.check().unwrap();
        let began = Instant::now();
        while tree([process.pid()]).len() < 3 || !process.printed().contains("up") {
            assert!(began.elapsed() < Duration::from_secs(20), "{}", process.printed());
            std::thread::yield_now();
        }
        let roles = Roles::from([("server", BTreeSet::from([process.pid()]))]);
        let used = used(&roles).unwrap();
        assert!(used.resident_mib()["server"] > 0.1 && used.resident_mib()["client"] > 0.1);
        let pids = tree([process.pid()]);
        process.child.kill().unwrap();
        drop(process);
        let began = Instant::now();
        while pids.iter().any(|(pid, started)| stat(*pid).is_some_and(|stat| stat.started == *started)) {
            // A zombie, until whoever inherited it has looked.
            assert!(began.elapsed() < Duration::from_secs(20), "{pids:?}");
            std::thread::yield_now();
        }
    }
}
