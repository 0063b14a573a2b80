//! The models of the repository, and what they are loaded with.

use std::path::Path;

use anyhow::{Context, bail};
use sferic_onnx::{Catalog, FolderCheck, Options, Runtime};
use sferic_registry::TrustedKeys;
use sferic_settings::{Settings, available_cores, given};

use crate::models::trusted_keys;

/// Loads and warms the models of the settings' repository, off the async threads.
///
/// # Errors
/// The library or the repository is missing, or no version of the default model can be served; then with the
/// reasons.
pub async fn load_models(settings: &Settings) -> anyhow::Result<(Catalog, Runtime)> {
    let library = settings.onnx.library.clone();
    let repository = settings.models.repository.clone();
    let options = options(settings)?;
    let loading = tokio::task::spawn_blocking(move || {
        let runtime = Runtime::open(given(&library).map(Path::new))?;
        anyhow::Ok((Catalog::load(&repository, &runtime, &options)?, runtime))
    });
    let (catalog, runtime) = loading.await.context("loading the models panicked")??;
    let default = &settings.models.default;
    if let Err(failure) = catalog.resolve(default) {
        let reasons: String = catalog
            .refused()
            .iter()
            .filter(|refused| refused.name().is(default))
            .map(|refused| format!("; {refused}"))
            .collect();
        bail!("models.default: {}{reasons}", failure.message);
    }
    Ok((catalog, runtime))
}

/// The load options in the settings.
///
/// # Errors
/// One of `models.trusted_keys` cannot be read.
pub fn options(settings: &Settings) -> anyhow::Result<Options> {
    let (pool, max_bytes) = (&settings.pool, settings.models.max_bytes);
    let check = |keys: TrustedKeys| FolderCheck::new(move |folder| keys.check(folder, max_bytes));
    Ok(Options {
        sessions: pool.sessions,
        intra_threads: pool.intra_threads,
        max_batch: pool.max_batch,
        providers: pool.execution_providers.clone(),
        confidence_interval: settings.output.confidence_interval,
        max_versions: settings.models.max_versions,
        max_bytes,
        pinned: Some(settings.models.default.clone()),
        graphs: given(&settings.onnx.graphs).map(Into::into),
        check: trusted_keys(settings)?.map(check),
    })
}

/// Checks that sessions do not have more threads than there are cores.
///
/// # Errors
/// The arithmetic, and what to change.
pub fn check_threads(settings: &Settings) -> anyhow::Result<()> {
    let (sessions, intra, cores) = (settings.pool.sessions, settings.pool.intra_threads, available_cores());
    if sessions * intra > cores && !settings.pool.allow_oversubscribed {
        bail!(
            "pool.sessions × pool.intra_threads = {sessions} × {intra} = {} threads on {cores} cores; \
             lower one of them, or set pool.allow_oversubscribed",
            sessions * intra
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_threads_than_cores_are_refused_with_the_arithmetic() {
        let mut settings = Settings::default();
        assert!(check_threads(&settings).is_ok(), "the defaults fit every machine");
        let cores = available_cores();
        (settings.pool.sessions, settings.pool.intra_threads) = (cores, 2);
        let error = check_threads(&settings).expect_err("taken").to_string();
        for part in [
            format!("{cores} × 2 = {} threads on {cores} cores", 2 * cores),
            "pool.allow_oversubscribed".into(),
        ] {
            assert!(error.contains(&part), "{part:?} is not in {error:?}");
        }
        settings.pool.allow_oversubscribed = true;
        assert!(check_threads(&settings).is_ok());
    }
}
