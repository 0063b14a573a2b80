//! What the figures are of: the machine, and the versions of all that takes part.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use sferic_settings::available_cores;

use crate::servers::Programs;
use crate::side::Side;

/// Processor, cores, memory and system.
pub fn machine() -> BTreeMap<String, String> {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
    };
    let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
    let kib: f64 = memory.split(' ').next().and_then(|kib| kib.parse().ok()).unwrap_or_default();
    let entries = [
        ("processor", field(&read("/proc/cpuinfo"), "model name").unwrap_or_default()),
        ("cores", available_cores().to_string()),
        ("memory", format!("{:.0} GiB", kib / f64::from(1 << 20))),
        ("system", format!("Linux {}", read("/proc/sys/kernel/osrelease").trim())),
    ];
    entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Prints a line a package of a list of requirements.
const PACKAGES: &str = "
import importlib.metadata, platform, sys
print('Python', platform.python_version())
for line in open(sys.argv[1]):
    name = line.partition('==')[0].strip()
    if name and not name.startswith('#'):
        print(name, importlib.metadata.version(name))
";

/// Of the programs and packages of these sides.
pub fn versions(programs: &Programs, sides: &[Side]) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    let mut add = |name: &str, command: &mut Command| {
        let output = command.output().map(|output| output.stdout).unwrap_or_default();
        versions.insert(name.to_owned(), version(&String::from_utf8_lossy(&output)));
    };
    add("sferic", Command::new(&programs.sferic).arg("--version"));
    add("nats-server", Command::new(&programs.nats_server).arg("--version"));
    if sides.iter().any(|side| matches!(side, Side::Fastapi | Side::FastapiLists)) {
        add("redis-server", Command::new("redis-server").arg("--version"));
    }
    if let Ok(runtime) = sferic_onnx::Runtime::open(None) {
        let version = runtime.version().unwrap_or_default();
        versions.insert("ONNX Runtime of sferic and the bare loops".to_owned(), version);
    }
    if sides.iter().any(|side| side.needs_python()) {
        let requirements = programs.peers.join("requirements.txt");
        let output = Command::new(&programs.python).args(["-c", PACKAGES]).arg(requirements).output();
        let output = output.map(|output| output.stdout).unwrap_or_default();
        for line in String::from_utf8_lossy(&output).lines() {
            if let Some((name, version)) = line.split_once(' ') {
                versions.insert(name.to_owned(), version.to_owned());
            }
        }
    }
    versions
}

/// The first word with a digit in what a program says of itself, as `v2.12.0` or `v=7.0.15`.
fn version(text: &str) -> String {
    let word = text.split_whitespace().find(|word| word.contains('.') && word.contains(char::is_numeric));
    word.unwrap_or("unknown").trim_start_matches(['v', '=']).to_owned()
}

/// Whether there is such a program, by its path or on the `PATH`.
pub fn is_there(program: &Path) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        assert_eq!(version("sferic 0.1.0 (f7b52f4)"), "0.1.0");
        assert_eq!(version("nats-server: v2.14.0\n"), "2.14.0");
        assert_eq!(version("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0"), "7.0.15");
        assert_eq!(version(""), "unknown");
    }
}
