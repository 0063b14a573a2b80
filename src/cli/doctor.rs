//! `sferic doctor`: finds what is missing, and says what to do about it.

mod finding;
mod streams;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};
use sferic_onnx::{Catalog, Examination, ExecutionProvider, Runtime, compiled_in, examine, usable};
use sferic_settings::{Mode, Settings, available_cores, given};
use sferic_telemetry::with_causes;

use finding::Finding;

use super::ConnectArgs;
use super::output::Output;
use crate::app::{check_threads, load_models, options};
use crate::nats::{self, NoConnection};

/// Checks NATS, the ONNX Runtime library, its execution providers and the models, and says what to do about
/// what is missing. Exits 1 where something is.
///
/// Every model is measured on every execution provider that is usable here, whether it is configured or not:
/// latency of a frame alone on an idle thread, how many times faster than the CPU, which share of the model's
/// nodes and of the time in them it really took over (by ONNX Runtime's profile), and how far its outputs are
/// from those of the CPU at most.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    /// The NATS server's monitoring address, such as http://127.0.0.1:8222, to ask how it stores streams.
    #[arg(long, value_name = "URL")]
    monitor: Option<http::Uri>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

impl DoctorArgs {
    /// Runs the checks.
    ///
    /// # Errors
    /// The configuration is wrong.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let settings = self.connect.settings()?;
        let mut good = true;
        let mut report = |finding: Finding| {
            good &= finding.result.is_ok();
            finding.print(self.json)
        };
        report(server(&settings).await)?;
        if settings.nats.mode == Mode::Jetstream {
            for finding in streams::examine(&settings, self.monitor.as_ref()).await {
                report(finding)?;
            }
        }
        report(threads(&settings))?;
        match Runtime::open(given(&settings.onnx.library).map(Path::new)) {
            Err(error) => report(Finding::new("ONNX Runtime", Err(error.to_string())))?,
            Ok(runtime) => {
                report(library(&runtime))?;
                let usable = providers(&settings, &runtime, &mut report)?;
                match load_models(&settings).await {
                    Ok((catalog, _)) => {
                        let as_asked =
                            models(&settings, &runtime, catalog, usable, self.json, &mut report).await?;
                        good &= as_asked;
                    }
                    Err(error) => {
                        let what = format!("models in {}", settings.models.repository.display());
                        report(Finding::new(what, Err(with_causes(&error))))?;
                    }
                }
            }
        }
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

async fn server(settings: &Settings) -> Finding {
    let result = match nats::connect(&settings.nats, "sferic doctor").await {
        Ok(connection) => {
            let info = connection.client().server_info();
            let text = format!(
                "{} version {}, max_payload {} bytes",
                settings.nats.shown_url(),
                info.version,
                info.max_payload
            );
            connection.close(settings.nats.connect_timeout).await;
            Ok(text)
        }
        Err(error) => {
            let text = with_causes(&error);
            // These mean that the server was found; the error says what to set.
            let is_found =
                matches!(error.downcast_ref(), Some(NoConnection::Refused { .. } | NoConnection::Tls { .. }));
            let advice = "; start a nats-server there, or set nats.url or --url";
            Err(text + if is_found { "" } else { advice })
        }
    };
    Finding::new("NATS server", result)
}

fn threads(settings: &Settings) -> Finding {
    let (pool, cores) = (&settings.pool, available_cores());
    let text = format!("{} sessions × {} threads on {cores} cores", pool.sessions, pool.intra_threads);
    Finding::new("threads", check_threads(settings).map(|()| text).map_err(|error| error.to_string()))
}

fn library(runtime: &Runtime) -> Finding {
    let (path, version) = (runtime.library().display().to_string(), runtime.version());
    let text =
        format!("version {}, {path} ({})", version.as_deref().unwrap_or("unknown"), runtime.build_info());
    let details = json!({"library": path, "version": version});
    Finding { what: "ONNX Runtime".into(), result: Ok(text), details }
}

/// Reports the execution providers of the library and returns the usable ones. A missing one is an error only
/// if it is configured.
fn providers(
    settings: &Settings,
    runtime: &Runtime,
    report: &mut impl FnMut(Finding) -> io::Result<()>,
) -> io::Result<Vec<ExecutionProvider>> {
    let mut found = Vec::new();
    for provider in ExecutionProvider::ALL {
        let (compiled, configured) =
            (compiled_in(runtime, provider), settings.pool.execution_providers.contains(&provider));
        let usable = usable(runtime, provider);
        let details = json!({
            "provider": provider.name(), "compiled_in": compiled,
            "usable": usable.is_ok(), "configured": configured,
        });
        let result = match usable {
            Ok(()) => Ok(if configured {
                "compiled in, usable here, configured"
            } else {
                "compiled in, usable here, not configured"
            }
            .into()),
            Err(reason) if configured => {
                Err(format!("{reason}; or leave it out of pool.execution_providers"))
            }
            Err(_) if compiled => Ok("compiled in, not usable here, not configured".into()),
            Err(_) => Ok("not compiled in, not configured".into()),
        };
        if details["usable"] == true {
            found.push(provider);
        }
        report(Finding { what: format!("provider {provider}"), result, details })?;
    }
    Ok(found)
}

/// Reports refused bundles, and each model on each provider; returns whether all work on the configured ones.
async fn models(
    settings: &Settings,
    runtime: &Runtime,
    catalog: Catalog,
    usable: Vec<ExecutionProvider>,
    as_json: bool,
    report: &mut impl FnMut(Finding) -> io::Result<()>,
) -> anyhow::Result<bool> {
    for refused in catalog.refused() {
        let id = format!("model {}@{}", refused.name, refused.version);
        report(Finding::new(id.trim_end_matches('@'), Err(refused.reason.clone())))?;
    }
    let mut ids = Vec::new();
    for model in catalog.models() {
        let run = model.costs().first().map(|cost| cost.run).unwrap_or_default();
        let text = format!(
            "{:.2} ms a frame alone, batches of up to {}",
            run.as_secs_f64() * 1e3,
            model.max_batch()
        );
        let id = model.id().to_string();
        let details = json!({"model": id, "max_batch": model.max_batch(), "dispatch": model.dispatch()});
        report(Finding { what: format!("model {}", model.id()), result: Ok(text), details })?;
        ids.push(model.id().clone());
    }
    // Freed first, so that it does not affect the measurement.
    drop(catalog);
    if !as_json {
        Output::plain().raw(format_args!("\n{HEADER}"))?;
    }
    let mut as_asked = true;
    for id in ids {
        let folder = settings.models.repository.join(&id.name).join(&id.version);
        let (runtime, options, usable) = (runtime.clone(), options(settings)?, usable.clone());
        let examined =
            tokio::task::spawn_blocking(move || examine(&folder, &runtime, &options, &usable)).await?;
        for (provider, found) in examined.map_err(anyhow::Error::msg)? {
            let found = found.as_ref();
            let right = found.is_ok_and(|found| found.difference.is_small());
            as_asked &= right || !settings.pool.execution_providers.contains(&provider);
            let id = id.to_string();
            Output::plain().line(if as_json {
                line(&id, provider, found).to_string()
            } else {
                row(&id, provider, found)
            })?;
        }
    }
    Ok(as_asked)
}

const HEADER: &str =
    "model                    provider     p50 ms    p99 ms  speed-up  of nodes  of time   off by at most";

fn row(model: &str, provider: ExecutionProvider, found: Result<&Examination, &String>) -> String {
    let name = provider.name();
    match found {
        Err(reason) => format!("{model:<24} {name:<9} can't run it: {reason}"),
        Ok(Examination { p50, p99, speed_up, dispatch, difference, .. }) => {
            let (p50, p99) = (p50.as_secs_f64() * 1e3, p99.as_secs_f64() * 1e3);
            let (nodes, time) = match dispatch.as_ref().map(|dispatch| dispatch.of(provider)) {
                Ok(share) => {
                    (format!("{:.0} %", 100.0 * share.nodes), format!("{:.0} %", 100.0 * share.time))
                }
                Err(_) => ("unknown".into(), "unknown".into()),
            };
            let verdict = if difference.is_small() { "" } else { ", too much: not used" };
            let off = format!("{:.1e}{verdict}", difference.largest);
            format!(
                "{model:<24} {name:<9} {p50:>9.3} {p99:>9.3} {speed_up:>8.2}× {nodes:>9} {time:>8}   {off}"
            )
        }
    }
}

fn line(model: &str, provider: ExecutionProvider, found: Result<&Examination, &String>) -> Value {
    let check = format!("model {model} on {provider}");
    match found {
        Err(reason) => {
            let provider = provider.name();
            json!({"check": check, "ok": false, "message": reason, "model": model, "provider": provider})
        }
        Ok(found) => json!({
            "check": check,
            "ok": found.difference.is_small(),
            "model": model,
            "provider": provider.name(),
            "runs": found.runs,
            "p50_ms": found.p50.as_secs_f64() * 1e3,
            "p99_ms": found.p99.as_secs_f64() * 1e3,
            "speed_up": found.speed_up,
            "dispatch": found.dispatch.as_ref().ok(),
            "largest_difference": found.difference.largest,
            "rms_difference": found.difference.rms,
        }),
    }
}
