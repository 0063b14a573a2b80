//! ONNX Runtime alone: threads that do nothing but run.

use std::fmt;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use ort::session::Session;
use ort::value::TensorRef;
use sferic_onnx::Runtime;
use sferic_settings::available_cores;

/// Of one frame.
pub const SHAPE: [usize; 3] = [1, 128, 61];

/// How the loop is cut.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    sessions: usize,
    intra_threads: usize,
    batch: usize,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sessions × {} threads, batches of {}", self.sessions, self.intra_threads, self.batch)
    }
}

/// The cut with the most frames a second in a short try of each.
pub fn best(runtime: &Runtime, onnx: &[u8]) -> anyhow::Result<Cut> {
    let cores = available_cores();
    let mut best = (0.0, Cut { sessions: cores, intra_threads: 1, batch: 1 });
    for intra_threads in (1..=cores).filter(|threads| cores.is_multiple_of(*threads)) {
        for batch in [1, 2, 4, 8] {
            let cut = Cut { sessions: cores / intra_threads, intra_threads, batch };
            let rate = rate(runtime, onnx, cut, Duration::from_secs(1))?;
            eprintln!("  {cut}: {rate:.1} frames/s");
            if rate > best.0 {
                best = (rate, cut);
            }
        }
    }
    Ok(best.1)
}

/// Frames a second over this time, all threads together.
pub fn rate(runtime: &Runtime, onnx: &[u8], cut: Cut, time: Duration) -> anyhow::Result<f64> {
    let environment = runtime.environment();
    let data: Vec<f32> = (0..cut.batch * SHAPE.iter().product::<usize>()).map(|i| (i as f32).sin()).collect();
    let shape = [cut.batch, SHAPE[0], SHAPE[1], SHAPE[2]];
    let mut sessions = Vec::new();
    for _ in 0..cut.sessions {
        let builder = Session::builder(environment)?
            .with_intra_threads(cut.intra_threads)
            .map_err(|e| anyhow::anyhow!("{e}"))?;
        let mut builder = builder.with_intra_op_spinning(false).map_err(|e| anyhow::anyhow!("{e}"))?;
        sessions.push(builder.commit_from_memory(onnx)?);
    }
    let start = Barrier::new(cut.sessions);
    let rates = std::thread::scope(|scope| {
        let work = |mut session: Session| {
            let (data, start) = (&data, &start);
            move || -> anyhow::Result<f64> {
                session.run(ort::inputs![TensorRef::from_array_view((shape, &data[..]))?])?;
                start.wait();
                let (began, mut frames) = (Instant::now(), 0);
                while began.elapsed() < time {
                    session.run(ort::inputs![TensorRef::from_array_view((shape, &data[..]))?])?;
                    frames += cut.batch;
                }
                Ok(frames as f64 / began.elapsed().as_secs_f64())
            }
        };
        let spawn =
            |session| std::thread::Builder::new().name("bare".into()).spawn_scoped(scope, work(session));
        let threads = sessions.into_iter().map(spawn).collect::<Result<Vec<_>, _>>()?;
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
            .collect::<Result<Vec<_>, _>>()
    });
    Ok(rates?.into_iter().sum())
}
