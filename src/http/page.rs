//! The operator's page: its files, which are part of the program, and the streets of `page.basemap`.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sferic_settings::Page;
use tower_http::services::ServeFile;

use super::pages::{PageOptions, Pages};

/// Nothing is loaded from elsewhere, and no other page may show this one.
const POLICY: &str = "default-src 'self'; img-src 'self' data: blob:; base-uri 'self'; form-action 'self'; \
                      frame-ancestors 'none'";

/// Where the streets are served.
const BASEMAP: &str = "/basemap.pmtiles";

/// How such a file begins: its name, and the version of the format.
const PMTILES: &[u8; 8] = b"PMTiles\x03";

/// The page itself, with marks where [`PageOptions`] are filled in.
const INDEX: &str = include_str!("../../web/index.html");

/// A file of the page.
struct PageFile {
    path: &'static str,
    content_type: &'static str,
    content: &'static [u8],
}

macro_rules! files {
    ($($name:literal $content_type:expr),+ $(,)?) => {
        &[$(PageFile {
            path: concat!("/page/", $name),
            content_type: $content_type,
            content: include_bytes!(concat!("../../web/", $name)),
        }),+]
    };
}

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

const FILES: &[PageFile] = files![
    "app.js" SCRIPT,
    "circle.js" SCRIPT,
    "details.js" SCRIPT,
    "dom.js" SCRIPT,
    "export.js" SCRIPT,
    "fixes.js" SCRIPT,
    "format.js" SCRIPT,
    "grid.js" SCRIPT,
    "health.js" SCRIPT,
    "icon.svg" "image/svg+xml",
    "map.js" SCRIPT,
    "models.js" SCRIPT,
    "outcomes.js" SCRIPT,
    "store.js" SCRIPT,
    "stream.js" SCRIPT,
    "style.css" STYLE,
    "waterfall.js" SCRIPT,
    "vendor/countries-50m.json" "application/json",
    "vendor/leaflet.css" STYLE,
    "vendor/leaflet.js" SCRIPT,
    "vendor/licenses.txt" "text/plain; charset=utf-8",
    "vendor/pmtiles.js" SCRIPT,
    "vendor/protomaps-leaflet.js" SCRIPT,
    "vendor/topojson-client.min.js" SCRIPT,
];

/// Whether a path is a file of the page.
pub(super) fn is_file(path: &str) -> bool {
    path == "/" || FILES.iter().any(|file| file.path == path)
}

/// The routes of the page's files, and of its streets where there are some.
pub(super) fn files(page: &Page) -> Router<Arc<Pages>> {
    let mut routes = Router::new();
    for PageFile { path, content_type, content } in FILES {
        let tag = tag(content);
        routes = routes
            .route(path, get(async move |headers: HeaderMap| answer(&headers, &tag, content_type, *content)));
    }
    if !page.basemap.as_os_str().is_empty() {
        routes = routes.route_service(BASEMAP, ServeFile::new(&page.basemap));
    }
    routes
}

/// Checks that `page.basemap` can be read and is a map.
///
/// # Errors
/// It is not; names the key, the file and what is wrong.
pub(super) fn check_basemap(path: &Path) -> anyhow::Result<()> {
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    let named = || format!("`page.basemap` is {}", path.display());
    let mut beginning = [0; PMTILES.len()];
    let mut file = File::open(path).with_context(named)?;
    let read = file.read_exact(&mut beginning);
    ensure!(read.is_ok() && beginning == *PMTILES, "{}, must be a PMTiles file of version 3", named());
    Ok(())
}

/// `GET /`.
pub(super) async fn index(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Response {
    let PageOptions { has_token, has_basemap } = pages.page;
    let page = INDEX
        .replace("%version%", env!("CARGO_PKG_VERSION"))
        .replace("%token%", if has_token { "needed" } else { "" })
        .replace("%basemap%", if has_basemap { BASEMAP } else { "" });
    let tag = tag(page.as_bytes());
    let mut answer = answer(&headers, &tag, "text/html; charset=utf-8", page);
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}

/// Tells contents apart, from one version of the program to the next.
fn tag(content: &[u8]) -> HeaderValue {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    let tag = format!("\"{:016x}\"", hasher.finish());
    HeaderValue::try_from(tag).unwrap_or(HeaderValue::from_static("\"0\""))
}

fn answer(
    asked: &HeaderMap,
    tag: &HeaderValue,
    content_type: &'static str,
    content: impl IntoResponse,
) -> Response {
    let mut answer = if asked.get(header::IF_NONE_MATCH) == Some(tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        content.into_response()
    };
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::ETAG, tag.clone());
    // A browser asks each time, and gets the file where it has changed.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer
}
