//! Where `sferic watch` puts outcomes beside standard output.

mod mqtt;
mod parquet;
mod sigmf;

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use self::mqtt::Mqtt;
use self::parquet::ParquetFile;
use self::sigmf::Annotations;
use super::outcome::Outcome;

/// Where outcomes go beside standard output.
#[derive(Args, Clone, Debug)]
#[group(id = "sink", multiple = false)]
pub struct SinkArgs {
    /// Write outcomes into this folder as annotations of SigMF, one metadata file or more for each source.
    #[arg(long, value_name = "DIR")]
    sigmf: Option<PathBuf>,
    /// Write outcomes as a table into this new file: Parquet, and GeoParquet of the positions. It can be read
    /// once the command has ended.
    #[arg(long, value_name = "FILE")]
    parquet: Option<PathBuf>,
    /// Publish outcomes to a broker of MQTT, as JSON below this topic:
    /// `mqtt://[USER:PASSWORD@]HOST[:PORT][/TOPIC]`, or mqtts:// with TLS.
    #[arg(long, value_name = "URL")]
    mqtt: Option<String>,
}

/// Where outcomes go.
pub enum Sink {
    /// A broker.
    Mqtt(Mqtt),
    /// A table.
    Parquet(Box<ParquetFile>),
    /// Metadata files.
    Sigmf(Annotations),
}

impl SinkArgs {
    /// Opens the one that is asked for.
    ///
    /// # Errors
    /// It cannot be reached or written.
    pub async fn open(&self, prefix: &str) -> anyhow::Result<Option<Sink>> {
        Ok(if let Some(folder) = &self.sigmf {
            Some(Sink::Sigmf(Annotations::open(folder)?))
        } else if let Some(file) = &self.parquet {
            Some(Sink::Parquet(Box::new(ParquetFile::create(file)?)))
        } else if let Some(url) = &self.mqtt {
            Some(Sink::Mqtt(Mqtt::connect(url, prefix).await?))
        } else {
            None
        })
    }
}

impl Sink {
    /// Takes an outcome.
    ///
    /// # Errors
    /// It cannot be written or sent.
    pub async fn take(&mut self, outcome: &Outcome) -> anyhow::Result<()> {
        match self {
            Self::Mqtt(mqtt) => mqtt.publish(outcome).await,
            Self::Parquet(file) => file.add(outcome),
            Self::Sigmf(annotations) => annotations.add(outcome, Instant::now()),
        }
    }

    /// Called once a second.
    ///
    /// # Errors
    /// What is due cannot be written.
    pub fn tick(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Mqtt(_) | Self::Parquet(_) => Ok(()),
            Self::Sigmf(annotations) => annotations.write_due(Instant::now()),
        }
    }

    /// Writes what is left, and says what was done.
    ///
    /// # Errors
    /// Not everything could be written or sent.
    pub async fn close(self) -> anyhow::Result<String> {
        match self {
            Self::Mqtt(mqtt) => mqtt.close().await,
            Self::Parquet(file) => file.close(),
            Self::Sigmf(annotations) => annotations.close(),
        }
    }
}
