//! Execution providers, with the library that `ops/setup onnxruntime-openvino` puts there and without. Each
//! of the first kind needs a process of its own, which nextest gives it.

use sferic_models::Bundle;

use super::super::provider::usable;
use super::super::trial::Trial;
use super::*;
use crate::ExecutionProvider::{self, Coreml, Cpu, Cuda, Openvino, Tensorrt, Xnnpack};

fn openvino() -> Option<Runtime> {
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/openvino/libonnxruntime.so");
    if !library.is_file() {
        if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            sferic_tools::skip(format_args!(
                "{} is not there; run ops/setup onnxruntime-openvino",
                library.display()
            ));
        } else {
            sferic_tools::not_run("OpenVINO's provider comes for Linux x86-64 only");
        }
        return None;
    }
    let runtime = Runtime::open(Some(&library)).expect("can't be loaded");
    if runtime.library() != library {
        let loaded = runtime.library().display();
        sferic_tools::not_run(format_args!("this process has loaded {loaded} already"));
        return None;
    }
    Some(runtime)
}

fn on(providers: &[ExecutionProvider]) -> Options {
    Options { sessions: 2, max_batch: 4, providers: providers.to_vec(), ..Options::default() }
}

#[test]
fn openvino_runs_the_shipped_models_as_the_cpu_does() {
    let Some(runtime) = openvino() else { return };
    assert_eq!(usable(&runtime, Openvino), Ok(()));
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/models");
    let with = Catalog::load(&repository, &runtime, &on(&[Cuda, Openvino, Cpu])).expect("readable");
    assert_eq!((with.refused().len(), with.models().len()), (0, 4), "{:?}", with.refused());
    // Where a provider's answers differ from the CPU's, that runs the model: a solver amplifies rounding.
    let learned = |name: &str| ["localization", "modulation"].contains(&name);
    for model in with.models().iter().filter(|model| learned(&model.id().name)) {
        assert_eq!(model.providers(), [Openvino]);
        let dispatch = model.dispatch().expect("no profile");
        eprintln!("{}: {dispatch}; {:?}", model.id(), model.costs());
        let share = dispatch.of(Openvino);
        assert!(share.nodes > 0.0 && share.time > 0.0, "{dispatch}");
        let folder = repository.join(&model.id().name).join(&model.id().version);
        for (provider, found) in examine(&folder, &runtime, &on(&[Cpu]), &[Openvino]).expect("refused") {
            let found = found.expect("failed");
            eprintln!("{provider}: {found:?}");
            assert!(found.difference.is_small() && found.p50 <= found.p99, "{found:?}");
            assert_eq!(found.dispatch.expect("no profile").of(Openvino).nodes > 0.0, provider == Openvino);
        }
    }
}

#[test]
fn openvino_is_shared_by_threads() {
    let Some(runtime) = openvino() else { return };
    let load = |providers: &[ExecutionProvider]| {
        Model::load("metres", "1", &fixtures().join("metres/1"), &runtime, &on(providers))
    };
    let (model, cpu) = (load(&[Openvino, Cpu]).expect("refused"), load(&[Cpu]).expect("refused"));
    assert_eq!((model.providers(), cpu.providers()), (&[Openvino][..], &[][..]));
    thread::scope(|scope| {
        for thread in 0..4usize {
            let (model, cpu) = (&model, &cpu);
            scope.spawn(move || {
                for round in 0..100usize {
                    let count = 1 + round % model.max_batch();
                    let tensors: Vec<Inputs> = (0..count)
                        .map(|k| constant(0.01 * (k + thread) as f32, 0.3, 16 + round % 20))
                        .collect();
                    let batch: Vec<&Inputs> = tensors.iter().collect();
                    let answers =
                        model.run(&batch, &mut Vec::new(), &RunTerminator::default()).expect("failed");
                    for (tensor, answer) in batch.iter().zip(answers) {
                        let right = cpu
                            .run(&[tensor], &mut Vec::new(), &RunTerminator::default())
                            .expect("failed")
                            .remove(0);
                        let [Ok(Answer::Localization(right)), Ok(Answer::Localization(found))] =
                            [right, answer]
                        else {
                            panic!()
                        };
                        // A millionth of a degree east is a tenth of a metre; the frames lie 10 m apart.
                        assert!(
                            (right.position.longitude - found.position.longitude).abs() < 1e-6,
                            "{right:?} {found:?}"
                        );
                    }
                }
            });
        }
    });
}

#[test]
fn a_session_wrong_only_in_batches_is_found() {
    let Some(runtime) = runtime() else { return };
    let bundle = |name: &str| Bundle::read(&fixtures().join(name).join("1")).expect("refused");
    let (degrees, mixing) = (bundle("degrees"), bundle("mixing"));
    let difference = |max_batch| {
        let options = Options { max_batch, ..Options::default() };
        let other = Trial::new(&runtime, &mixing, &options).expect("refused").cpu;
        Trial::new(&runtime, &degrees, &options).expect("refused").difference(&other).expect("failed")
    };
    assert!(difference(1).is_small() && !difference(4).is_small(), "{:?} {:?}", difference(1), difference(4));
}

#[test]
fn a_provider_with_wrong_outputs_is_left_out() {
    let Some(runtime) = openvino() else { return };
    let bundle = |version: &str| Bundle::read(&fixtures().join("versions").join(version)).expect("refused");
    // The same ports, other answers: as if the provider gave them.
    let (two, nine) = (bundle("2"), bundle("9"));
    let mut trial = Trial::new(&runtime, &two, &Options::default()).expect("refused");
    trial.cpu = Trial::new(&runtime, &nine, &Options::default()).expect("refused").cpu;
    let mut rejected = Vec::new();
    let (taken, chosen) =
        trial.choose(&[Openvino, Cpu], &mut |provider, reason| rejected.push((provider, reason)));
    assert!(taken.is_empty() && chosen.is_none());
    let [(Openvino, reason)] = &rejected[..] else { panic!("{rejected:?}") };
    assert!(reason.contains("1.00e0") && reason.contains("rms") && reason.contains("1e-2"), "{reason}");
}

#[test]
fn providers_that_are_not_there_are_left_out_with_a_reason() {
    let Some(runtime) = runtime() else { return };
    for provider in [Openvino, Cuda, Tensorrt, Coreml, Xnnpack]
        .into_iter()
        .filter(|&provider| !compiled_in(&runtime, provider))
    {
        let reason = usable(&runtime, provider).expect_err("usable");
        assert!(reason.contains("built without it") && reason.contains("onnx.library"), "{reason}");
        // Reported by the library itself if it is configured nevertheless.
        let model =
            Model::load("degrees", "1", &fixtures().join("degrees/1"), &runtime, &on(&[provider, Cpu]))
                .expect("refused");
        assert!(model.providers().is_empty());
        let error = Model::load("degrees", "1", &fixtures().join("degrees/1"), &runtime, &on(&[provider]))
            .expect_err("loaded");
        assert!(error.contains("none of the execution providers"), "{error}");
    }
    assert!(
        usable(&runtime, Openvino).is_ok()
            || usable(&runtime, Openvino).is_err_and(|reason| reason.contains("ops/setup"))
    );
    assert_eq!(usable(&runtime, Cpu), Ok(()));
}

#[test]
fn on_the_cpu_every_node_runs_on_the_cpu() {
    let Some(catalog) = catalog() else { return };
    for model in catalog.models() {
        let share = model.dispatch().expect("no profile").of(Cpu);
        assert_eq!((share.nodes, share.time), (1.0, 1.0), "{}", model.id());
    }
}
