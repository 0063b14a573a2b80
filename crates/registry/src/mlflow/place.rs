//! Where the files of a model version lie: behind the server, or in a folder that is mounted here.

use std::path::{Path, PathBuf};

use http::HeaderValue;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use tokio::fs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::address::{Address, encoded, encoded_path};
use super::contents::{Entry, MAX_DEPTH, MAX_ENTRIES, checked, joined};
use super::http::Http;
use crate::RegistryError::{self, Refused, Unreachable};

/// The most bytes of a file that is read into memory.
const MAX_TEXT: u64 = 4 << 20;

/// The folder of a logged model.
pub(super) enum Place<'a> {
    /// Behind a server that passes artifacts on.
    Proxied {
        /// The service's URL.
        service: String,
        /// Path of the model below it.
        root: String,
        /// Who asks.
        who: Option<&'a HeaderValue>,
        /// The client.
        http: &'a Http,
    },
    /// A folder of this machine.
    Folder(PathBuf),
}

impl<'a> Place<'a> {
    /// Of the place that MLflow gives for a version.
    ///
    /// # Errors
    /// Files can't be read from there, in words.
    pub(super) fn of(uri: &str, address: &'a Address, http: &'a Http) -> Result<Self, String> {
        match uri.split_once(':') {
            Some(("mlflow-artifacts", rest)) => {
                let (authority, path) = match rest.strip_prefix("//") {
                    Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
                    None => ("", rest),
                };
                let authority = if authority.is_empty() { address.authority() } else { authority };
                let root = path.trim_matches('/').to_owned();
                if authority.contains('@') || checked(&root).is_err() {
                    return Err("its mlflow-artifacts: path is not accepted".into());
                }
                let service = format!("{}/api/2.0/mlflow-artifacts/artifacts", address.below(authority));
                Ok(Self::Proxied { service, root, who: address.authorization(authority), http })
            }
            Some(("file", path)) => {
                let path = path.strip_prefix("//localhost").or_else(|| path.strip_prefix("//"));
                let path = path.unwrap_or(&uri["file:".len()..]);
                Self::folder(&percent_decode_str(path).decode_utf8_lossy())
            }
            _ if uri.starts_with('/') => Self::folder(uri),
            // The rest of it may hold secrets.
            Some((scheme, _)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') => {
                Err(format!(
                    "its files are at {scheme}:, which is not fetched from: let the MLflow server pass them \
                     on (`mlflow server --artifacts-destination …`, so that they are at mlflow-artifacts:), \
                     or keep them in a folder that is mounted here too"
                ))
            }
            _ => Err("its files are at a place that is no absolute path".into()),
        }
    }

    fn folder(path: &str) -> Result<Self, String> {
        let folder = PathBuf::from(path);
        let is_plain = folder.is_absolute() && !path.split('/').any(|part| part == "..");
        if is_plain && !path.contains(['\\', '\0']) {
            return Ok(Self::Folder(folder));
        }
        Err(format!("its files are at `{}`, which is no absolute path without ..", path.escape_debug()))
    }

    /// Every file, sorted.
    ///
    /// # Errors
    /// It can't be listed, is empty, too large, or holds a path that is not accepted.
    pub(super) async fn list(&self) -> Result<Vec<Entry>, RegistryError> {
        let mut files = Vec::new();
        let mut folders = vec![String::new()];
        let mut count = 0;
        while let Some(folder) = folders.pop() {
            if folder.split('/').count() > MAX_DEPTH {
                return Err(Refused(format!("has more than {MAX_DEPTH} folders in each other")));
            }
            for (name, kind) in self.entries(&folder).await? {
                count += 1;
                if count > MAX_ENTRIES {
                    return Err(Refused(format!("has more than {MAX_ENTRIES} files and folders")));
                }
                let path = joined(&folder, &name).map_err(Refused)?;
                match kind {
                    Kind::Folder => folders.push(path),
                    Kind::File(size) => files.push(Entry { path, size }),
                }
            }
        }
        files.sort_by(|one, other| one.path.cmp(&other.path));
        if files.is_empty() { Err(Refused(format!("has no files at {}", self.shown()))) } else { Ok(files) }
    }

    async fn entries(&self, folder: &str) -> Result<Vec<(String, Kind)>, RegistryError> {
        match self {
            Self::Proxied { service, root, who, http } => {
                let path = joined_path(root, folder);
                let text = http.text(&format!("{service}?path={}", encoded(&path)), *who).await?;
                listed(&text).ok_or_else(|| Refused(format!("{service}: the answer is no list of artifacts")))
            }
            Self::Folder(root) => read_folder(&joined_folder(root, folder)).await,
        }
    }

    /// A small file.
    ///
    /// # Errors
    /// It can't be read, or is no small text.
    pub(super) async fn text(&self, entry: &Entry) -> Result<String, RegistryError> {
        match self {
            Self::Proxied { http, who, .. } => http.text(&self.url(&entry.path), *who).await,
            Self::Folder(root) => {
                let path = root.join(&entry.path);
                let unread = |error| Unreachable(format!("can't read {}: {error}", path.display()));
                let mut bytes = Vec::new();
                let file = fs::File::open(&path).await.map_err(unread)?;
                file.take(MAX_TEXT + 1).read_to_end(&mut bytes).await.map_err(unread)?;
                if bytes.len() as u64 > MAX_TEXT {
                    return Err(Refused(format!("{} has more than {MAX_TEXT} bytes", path.display())));
                }
                String::from_utf8(bytes).map_err(|_| Refused(format!("{} is no text", path.display())))
            }
        }
    }

    /// Writes a file; its size, at most `most`.
    ///
    /// # Errors
    /// It can't be read as a whole, is too large, or can't be written.
    pub(super) async fn write(&self, entry: &Entry, to: &Path, most: u64) -> Result<u64, RegistryError> {
        let root = match self {
            Self::Proxied { http, who, .. } => {
                return http.download(&self.url(&entry.path), *who, to, entry.size, most).await;
            }
            Self::Folder(root) => root,
        };
        let path = root.join(&entry.path);
        let failed = |error| Unreachable(format!("can't copy {}: {error}", path.display()));
        let source = fs::File::open(&path).await.map_err(failed)?;
        let mut file = fs::File::create_new(to).await.map_err(failed)?;
        let size = tokio::io::copy(&mut source.take(most.saturating_add(1)), &mut file).await;
        let size = size.map_err(failed)?;
        file.flush().await.map_err(failed)?;
        match entry.size {
            _ if size > most => {
                Err(Refused(format!("{}: has more bytes than are left, {most}", path.display())))
            }
            Some(listed) if listed != size => {
                Err(Unreachable(format!("{}: came {size} bytes, its list says {listed}", path.display())))
            }
            _ => Ok(size),
        }
    }

    fn url(&self, path: &str) -> String {
        match self {
            Self::Proxied { service, root, .. } => {
                format!("{service}/{}", encoded_path(&joined_path(root, path)))
            }
            Self::Folder(root) => joined_folder(root, path).display().to_string(),
        }
    }

    /// The place, for messages.
    fn shown(&self) -> String {
        self.url("")
    }
}

/// What an entry of a list is.
enum Kind {
    Folder,
    File(Option<u64>),
}

fn joined_path(root: &str, path: &str) -> String {
    if path.is_empty() { root.to_owned() } else { format!("{root}/{path}") }
}

/// Without the slash at the end that joining nothing would add.
fn joined_folder(root: &Path, path: &str) -> PathBuf {
    if path.is_empty() { root.to_owned() } else { root.join(path) }
}

/// Reads a server's list; `None` where it is none.
fn listed(text: &str) -> Option<Vec<(String, Kind)>> {
    #[derive(Deserialize)]
    struct List {
        #[serde(default)]
        files: Vec<File>,
    }
    #[derive(Deserialize)]
    struct File {
        path: String,
        #[serde(default)]
        is_dir: bool,
        file_size: Option<Number>,
    }
    // 64-bit integers are texts in the JSON of protocol buffers; MLflow writes numbers.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Number(u64),
        Text(String),
    }
    let list: List = serde_json::from_str(text).ok()?;
    let entry = |file: File| {
        let size = match file.file_size {
            Some(Number::Number(size)) => Some(size),
            Some(Number::Text(size)) => Some(size.parse().ok()?),
            None => None,
        };
        Some((file.path, if file.is_dir { Kind::Folder } else { Kind::File(size) }))
    };
    list.files.into_iter().map(entry).collect()
}

async fn read_folder(folder: &Path) -> Result<Vec<(String, Kind)>, RegistryError> {
    let unread = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Refused(format!(
            "its files are at {}, which is not there: mount it here, or let the MLflow server pass them on \
             (`mlflow server --artifacts-destination …`)",
            folder.display()
        )),
        _ => Unreachable(format!("can't read {}: {error}", folder.display())),
    };
    let mut entries = Vec::new();
    let mut reading = fs::read_dir(folder).await.map_err(unread)?;
    while let Some(entry) = reading.next_entry().await.map_err(unread)? {
        let path = entry.path();
        // The link's own, not its target's: it may lead out of the folder.
        let data = fs::symlink_metadata(&path).await.map_err(unread)?;
        let kind = if data.is_dir() {
            Kind::Folder
        } else if data.is_file() {
            Kind::File(Some(data.len()))
        } else {
            return Err(Refused(format!("{} is neither a file nor a folder", path.display())));
        };
        let name = entry.file_name().into_string();
        entries.push((name.map_err(|_| Refused(format!("{} is no text", path.display())))?, kind));
        if entries.len() > MAX_ENTRIES {
            break;
        }
    }
    Ok(entries)
}
