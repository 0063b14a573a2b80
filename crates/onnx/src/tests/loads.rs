//! Models as they come: the slow one, the shipped ones, those that measure; and memory over many runs.

use super::*;

#[test]
fn the_slow_model_is_slow_enough_to_be_overtaken() {
    let Some(runtime) = runtime() else { return };
    let model =
        Model::load("slow", "1", &fixtures().join("slow/1"), &runtime, &Options::default()).expect("refused");
    assert!(model.max_batch() == 1 && model.costs()[0].run.as_millis() > 800, "{:?}", model.costs());

    let input = Inputs::from(Tensor { shape: [1, 2, 8], data: vec![0.5; 16].into() });
    let canceller = RunTerminator::new().expect("no run options");
    let ended = thread::scope(|scope| {
        let running = scope.spawn(|| model.run(&[&input], &mut Vec::new(), &canceller));
        // A cancellation before the run begins cancels it too.
        canceller.cancel();
        running.join().expect("panicked")
    });
    let error = ended.expect_err("the run went to its end").to_string();
    assert!(error.contains("terminate"), "{error}");
    canceller.reset();
    assert!(model.run(&[&input], &mut Vec::new(), &canceller).is_ok());
}

#[test]
fn an_optimised_graph_is_kept_and_opened_again() {
    let Some(runtime) = runtime() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let graphs = folder.path().join("a/graphs");
    let options = Options { graphs: Some(graphs.clone()), ..Options::default() };
    let bundle = fixtures().join("classes/1");
    let load = || Model::load("classes", "1", &bundle, &runtime, &options).expect("refused");
    let kept = || {
        let entries = std::fs::read_dir(&graphs).expect("kept").flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let input = constant(0.25, -0.5, 16);
    let answer = |model: &Model| {
        let outcome = model.run(&[&input], &mut Vec::new(), &RunTerminator::default()).expect("failed");
        outcome[0].clone().expect("failed")
    };
    let first = answer(&load());
    let [graph] = &kept()[..] else { panic!("{:?}", kept()) };
    let optimised = std::fs::read(graph).expect("readable");
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&graphs).expect("there"));
        assert_eq!(mode & 0o777, 0o700);
    }
    let second = load();
    assert_eq!((answer(&second), second.id()), (first.clone(), load().id()));
    assert_eq!(std::fs::read(graph).expect("readable"), optimised, "opened, and not made again");
    // What cannot be opened is made again.
    std::fs::write(graph, b"no graph").expect("written");
    assert_eq!(answer(&load()), first);
    assert_eq!(std::fs::read(graph).expect("readable"), optimised);
}

#[test]
fn the_shipped_models_load() {
    let Some(runtime) = runtime() else { return };
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/models");
    let catalog = Catalog::load(&repository, &runtime, &Options::default()).expect("readable");
    assert_eq!(catalog.refused(), []);
    let names: Vec<_> = catalog.models().iter().map(|model| model.id().to_string()).collect();
    assert_eq!(names, ["localization@1", "modulation@1", "rss@1", "tdoa@1"]);
    assert!(catalog.models().iter().all(|model| !model.batch_variant()));
}

#[test]
fn the_measuring_models_load_and_run() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models");
    if !repository.is_dir() {
        return sferic_tools::not_run(format_args!("{} is not there", repository.display()));
    }
    let Some(runtime) = runtime() else { return };
    let catalog = Arc::new(Catalog::load(&repository, &runtime, &Options::default()).expect("readable"));
    assert_eq!(catalog.refused(), []);
    for model in catalog.models() {
        let costs: Vec<_> =
            model.costs().iter().map(|cost| format!("{}: {:?}", cost.batch, cost.run)).collect();
        eprintln!("{}: max_batch {}, {}", model.id(), model.max_batch(), costs.join(", "));
        assert!(!model.batch_variant());
        let tensor = |k: usize| {
            Inputs::from(Tensor {
                shape: [1, 128, 61],
                data: (0..128 * 61).map(|i| ((i * (k + 7)) as f32).sin()).collect::<Vec<_>>().into(),
            })
        };
        let tensors = [tensor(0), tensor(1)];
        let both = model
            .run(&[&tensors[0], &tensors[1]], &mut Vec::new(), &RunTerminator::default())
            .expect("failed");
        for (tensor, answer) in tensors.iter().zip(both) {
            let alone = model
                .run(&[tensor], &mut Vec::new(), &RunTerminator::default())
                .expect("failed")
                .remove(0)
                .expect("failed");
            assert!((latitude(&answer.expect("failed")) - latitude(&alone)).abs() < 1e-7);
        }
    }
}

#[test]
fn widths_and_batches_that_vary_do_not_make_memory_grow() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models");
    let status = || std::fs::read_to_string("/proc/self/status").ok();
    if !repository.is_dir() || status().is_none() {
        return sferic_tools::not_run(format_args!("{} or /proc is not there", repository.display()));
    }
    let Some(runtime) = runtime() else { return };
    let model = Model::load("cnn_loc", "1", &repository.join("cnn_loc/1"), &runtime, &Options::default())
        .expect("refused");
    let resident_kib = || {
        let status = status().unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("no RssAnon");
        line.trim_end_matches("kB").trim().parse::<u64>().expect("no number")
    };
    let mut gathered = Vec::new();
    let mut pass = |offset: usize| {
        for round in 0..120usize {
            // Every width once, in no order; 101 and 120 have no common factor.
            let (width, batch) = (32 + 4 * (round * 101 % 120) + offset, 1 + round % 4);
            let tensors: Vec<Inputs> = (0..batch)
                .map(|_| Tensor { shape: [1, 128, width], data: vec![0.1; 128 * width].into() }.into())
                .collect();
            model
                .run(&tensors.iter().collect::<Vec<_>>(), &mut gathered, &RunTerminator::default())
                .expect("failed");
        }
        resident_kib()
    };
    // The arena finds room for every shape in the first passes.
    let found = [pass(0), pass(1), pass(0), pass(1), pass(0)];
    assert!(found[4] < found[2] + 8 * 1024, "{found:?} KiB after passes over 120 shapes");
}
