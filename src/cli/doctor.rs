//! `sferic doctor`: what is there, what is missing, and what to do about it.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::ConnectArgs;
use crate::app::load_models;
use crate::nats;
use crate::onnx::Runtime;
use crate::settings::{Settings, given};

/// Checks NATS, the ONNX Runtime library and the models, and says what to do about what is missing. Exits 1 where something is.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// What came of one check.
struct Finding {
    what: String,
    result: Result<String, String>,
}

impl DoctorArgs {
    /// Runs the checks.
    ///
    /// # Errors
    /// The configuration is wrong.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let settings = self.connect.settings()?;
        let mut findings = vec![server(&settings).await, library(&settings)];
        findings.extend(models(&settings).await);
        let mut good = true;
        for Finding { what, result } in findings {
            good &= result.is_ok();
            let (mark, text) = match &result {
                Ok(text) => ("ok", text),
                Err(text) => ("missing", text),
            };
            if self.json {
                println!("{}", json!({"check": what, "ok": result.is_ok(), "message": text}));
            } else {
                println!("{mark:<8} {what:<24} {text}");
            }
        }
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

async fn server(settings: &Settings) -> Finding {
    let result = match nats::connect(&settings.nats, "sferic doctor").await {
        Ok(connection) => {
            let info = connection.client.server_info();
            let text = format!("{} version {}, max_payload {} bytes", settings.nats.shown_url(), info.version, info.max_payload);
            connection.close(settings.nats.connect_timeout).await;
            Ok(text)
        }
        Err(error) => Err(format!("{error:#}; start a nats-server there, or set nats.url or --url")),
    };
    Finding { what: "NATS server".into(), result }
}

fn library(settings: &Settings) -> Finding {
    let result = Runtime::open(given(&settings.onnx.library).map(Path::new))
        .map(|runtime| format!("{} ({})", runtime.library().display(), runtime.build_info()))
        .map_err(|error| error.to_string());
    Finding { what: "ONNX Runtime".into(), result }
}

async fn models(settings: &Settings) -> Vec<Finding> {
    match load_models(settings).await {
        Ok(catalog) => catalog
            .models()
            .iter()
            .map(|model| {
                let run = model.costs().first().map(|cost| cost.run).unwrap_or_default();
                let text = format!("{:.2} ms a frame alone, batches of up to {}", run.as_secs_f64() * 1e3, model.max_batch());
                Finding { what: format!("model {}", model.id()), result: Ok(text) }
            })
            .collect(),
        Err(error) => {
            let what = format!("models in {}", settings.models.repository.display());
            vec![Finding { what, result: Err(format!("{error:#}")) }]
        }
    }
}
