//! The fakes themselves.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use sferic_samples::Datatype;
use tokio::sync::{mpsc, watch};

use super::*;
use crate::account::ledger::End;
use crate::frame::{Content, Envelope, FrameInfo, IqSamples, ModelId, Priority};
use crate::gather::GatherRules;
use crate::outcome::{Answer, Failure, FailureCode, Label, Outcome, PublishError};
use crate::ports::{
    Decoded, Decoder, FeatureWorker, LoadedModel, OutcomeSink, Rejected, RunCanceller, RunError, Runner,
};
use crate::tensor::{Input, Inputs, Tensor};

fn split(text: &[u8]) -> (String, String) {
    let text = String::from_utf8_lossy(text).into_owned();
    let (how, id) = text.split_once(':').unwrap_or(("", &text));
    (how.split('!').next().unwrap_or(how).to_owned(), id.to_owned())
}

fn priority(text: &[u8]) -> Priority {
    let level = text.iter().skip_while(|&&byte| byte != b'!').nth(1);
    match level {
        Some(b'0') => Priority::Critical,
        Some(b'1') => Priority::High,
        Some(b'3') => Priority::Low,
        _ => Priority::Normal,
    }
}

fn budget(text: &[u8]) -> Option<Duration> {
    let text = String::from_utf8_lossy(text);
    let ms = text.split(':').next()?.split('!').nth(2)?.parse().ok()?;
    Some(Duration::from_millis(ms))
}

/// Behaviours by the address of a frame's samples: what is equal for the cache need not behave alike.
pub(super) type Behaviours = Mutex<HashMap<usize, String>>;

/// A model that accepts every frame.
pub fn fake_model(name: &str, version: &str) -> Arc<dyn LoadedModel> {
    Arc::new(FakeModel::new(name, version, Duration::ZERO))
}

#[derive(Debug)]
pub(super) struct FakeModel {
    pub(super) id: Arc<ModelId>,
    pub(super) expected_run: Duration,
    pub(super) rules: Option<Arc<GatherRules>>,
}

impl FakeModel {
    pub(super) fn new(name: &str, version: &str, expected_run: Duration) -> Self {
        let id = ModelId { name: name.into(), version: version.into(), ..ModelId::default() };
        Self { id: Arc::new(id), expected_run, rules: None }
    }

    pub(super) fn gathering(self, rules: GatherRules) -> Self {
        Self { rules: Some(Arc::new(rules)), ..self }
    }
}

impl LoadedModel for FakeModel {
    fn id(&self) -> &Arc<ModelId> {
        &self.id
    }

    fn accepts(&self, _: &Content) -> Result<(), Failure> {
        Ok(())
    }

    fn gather(&self) -> Option<&Arc<GatherRules>> {
        self.rules.as_ref()
    }

    fn max_batch(&self) -> usize {
        usize::MAX
    }

    fn expected_run(&self) -> Duration {
        self.expected_run
    }

    fn digests(&self) -> [&[u8; 32]; 2] {
        [&[0; 32]; 2]
    }

    fn rebind(&self, answer: Answer) -> Option<Answer> {
        Some(answer)
    }
}

pub(super) struct FakeDecoder {
    pub(super) budget: Duration,
    pub(super) behaviours: Arc<Behaviours>,
}

impl Decoder for FakeDecoder {
    fn decode(&self, payload: &Bytes, envelope: &Envelope) -> Result<Decoded, Rejected> {
        let info = self.identify(payload, envelope);
        let (behaviour, id) = split(payload);
        assert_ne!(behaviour, DECODER_PANICS, "as asked");
        if behaviour == INVALID {
            return Err(Rejected { info, failure: Failure::new(FailureCode::InvalidFrame, "as asked") });
        }
        let equal = id.split('#').next().unwrap_or_default().len();
        let bytes = payload.slice(payload.len() - id.len()..payload.len() - id.len() + equal);
        let model = match () {
            () if behaviour == COSTLY => Some(COSTLY.to_owned()),
            () if behaviour.starts_with(GATHERED) => Some(GATHERED.to_owned()),
            () => None,
        };
        let is_cacheable = behaviour.starts_with(CACHED);
        let address = bytes.as_ptr() as usize;
        self.behaviours.lock().unwrap_or_else(PoisonError::into_inner).insert(address, behaviour);
        Ok(Decoded {
            info,
            content: Content {
                is_raw: envelope.is_raw,
                ..IqSamples { bytes, datatype: Datatype::Ci8, channels: 1, sample_rate: None }.into()
            },
            model,
            budget: budget(payload).unwrap_or(self.budget),
            priority: priority(payload),
            is_cacheable,
            session_size: None,
        })
    }

    fn identify(&self, payload: &Bytes, envelope: &Envelope) -> FrameInfo {
        let session_id = envelope.session_id.clone().or_else(|| Some(split(payload).0));
        FrameInfo { frame_id: split(payload).1, session_id, ..FrameInfo::default() }
    }
}

pub(super) struct FakeExtractor {
    pub(super) gate: watch::Receiver<bool>,
    pub(super) frames_extracted: Arc<AtomicU64>,
    pub(super) behaviours: Arc<Behaviours>,
}

/// The first value of a fake tensor says what its run does.
const BEHAVIOURS: [Behaviour; 5] = [GOOD, POISON, RUNNER_PANICS, SLOW, STUCK];

impl FeatureWorker for FakeExtractor {
    fn extract(&mut self, _: &dyn LoadedModel, content: Content) -> Result<Inputs, Failure> {
        let in_slot = content.slots.into_iter().flatten().find_map(|slot| slot.content.samples);
        let address = content.samples.or(in_slot).map_or(0, |samples| samples.bytes.as_ptr() as usize);
        let behaviour = self.behaviours.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
        let behaviour = behaviour.unwrap_or_default();
        self.frames_extracted.fetch_add(1, Ordering::Relaxed);
        let behaviour = behaviour.strip_prefix("cached-").unwrap_or(&behaviour);
        let behaviour = behaviour.strip_prefix("gathered-").unwrap_or(behaviour);
        let behaviour = match behaviour.strip_prefix("held") {
            None => behaviour,
            Some(then) => {
                let _ = futures::executor::block_on(self.gate.wait_for(|&open| open));
                assert_ne!(then, "-panics", "as asked");
                then.trim_start_matches('-')
            }
        };
        assert_ne!(behaviour, EXTRACTOR_PANICS, "as asked");
        if behaviour == SLOW_FEATURES {
            let _ = futures::executor::block_on(self.gate.wait_for(|&open| open));
        }
        let index = BEHAVIOURS.iter().position(|&known| known == behaviour).unwrap_or(0);
        let tensor = Tensor { shape: [1, 1, 1], data: vec![index as f32].into() };
        Ok(Inputs { is_raw: content.is_raw, ..tensor.into() })
    }
}

pub(super) struct FakeRunner {
    pub(super) runs: Arc<Mutex<Vec<usize>>>,
    pub(super) frames_run: Arc<AtomicU64>,
    pub(super) gate: watch::Receiver<bool>,
    pub(super) canceller: Arc<FakeCanceller>,
}

#[derive(Default)]
pub(super) struct FakeCanceller(watch::Sender<bool>);

impl RunCanceller for FakeCanceller {
    fn cancel(&self) {
        self.0.send_replace(true);
    }

    fn reset(&self) {
        self.0.send_replace(false);
    }
}

impl Runner for FakeRunner {
    fn run(
        &mut self,
        _: &dyn LoadedModel,
        batch: &[&Inputs],
    ) -> Result<Vec<Result<Answer, Failure>>, RunError> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).push(batch.len());
        self.frames_run.fetch_add(batch.len() as u64, Ordering::Relaxed);
        for inputs in batch {
            let Input::Computed(tensor) = &inputs.first else { continue };
            match BEHAVIOURS[tensor.data[0] as usize] {
                POISON => return Err(RunError("as asked".into())),
                RUNNER_PANICS => panic!("as asked"),
                STUCK => {
                    let _ = futures::executor::block_on(self.gate.wait_for(|&open| open));
                }
                SLOW => {
                    let (mut gate, mut canceller) = (self.gate.clone(), self.canceller.0.subscribe());
                    let (opened, cancelled) = (
                        gate.wait_for(|&open| open).boxed(),
                        canceller.wait_for(|&cancelled| cancelled).boxed(),
                    );
                    if let futures::future::Either::Right(_) =
                        futures::executor::block_on(futures::future::select(opened, cancelled))
                    {
                        return Err(RunError("cancelled".into()));
                    }
                }
                _ => {}
            }
        }
        Ok(batch
            .iter()
            .map(|inputs| match inputs.is_raw {
                false => Ok(Answer::Classification(vec![Label { label: "fake".into(), score: Some(1.0) }])),
                true => Ok(Answer::Tensors(Vec::new())),
            })
            .collect())
    }

    fn canceller(&self) -> Arc<dyn RunCanceller> {
        Arc::<FakeCanceller>::clone(&self.canceller)
    }
}

pub(super) struct FakeSink {
    pub(super) published: mpsc::UnboundedSender<(String, Option<FailureCode>)>,
    pub(super) versions: Arc<Mutex<Vec<String>>>,
    pub(super) hits: Arc<AtomicU64>,
    pub(super) abandoned: Arc<Mutex<Vec<&'static str>>>,
}

impl OutcomeSink for FakeSink {
    fn publish<'a>(&'a self, outcomes: &'a mut [Outcome]) -> BoxFuture<'a, Vec<Result<End, PublishError>>> {
        async move { outcomes.iter_mut().map(|outcome| Ok(self.publish_one(outcome))).collect() }.boxed()
    }

    fn abandoned(&self, _: &Outcome, publish_error: &PublishError) {
        self.abandoned.lock().unwrap_or_else(PoisonError::into_inner).push(publish_error.reason);
    }
}

impl FakeSink {
    fn publish_one(&self, outcome: &mut Outcome) -> End {
        let code = outcome.result.as_ref().err().map(|failure| failure.code);
        let end = if code.is_some() { End::Failure } else { End::Prediction };
        assert_ne!(outcome.info.session_id.as_deref(), Some(SINK_PANICS), "as asked");
        // As a sink has to: what was published before a crash is not published again.
        if std::mem::replace(&mut outcome.published.subject, true) {
            return end;
        }
        if outcome.result.as_ref().is_ok_and(|prediction| prediction.cache_hit) {
            self.hits.fetch_add(1, Ordering::Relaxed);
        }
        if let Ok(prediction) = &outcome.result {
            let version = prediction.model.version.clone();
            self.versions.lock().unwrap_or_else(PoisonError::into_inner).push(version);
        }
        let _ = self.published.send((outcome.info.frame_id.clone(), code));
        end
    }
}
