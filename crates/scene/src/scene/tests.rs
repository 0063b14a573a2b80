use super::*;

#[test]
fn a_scene_depends_on_seed_and_index_alone() {
    let mut simulator = SceneSimulator::new(7);
    let first = simulator.next_scene();
    let second = simulator.next_scene();
    assert_ne!(first.samples, second.samples);
    assert_eq!(SceneSimulator::new(7).scene(1).samples, second.samples);
    assert_ne!(SceneSimulator::new(8).scene(1).samples, second.samples);
}

#[test]
fn the_recorded_power_is_that_of_the_truth() {
    for scene in SceneSimulator::new(1).take(100) {
        let powers = scene.powers();
        for (power, snr) in powers.iter().zip(scene.truth.snr_db) {
            assert!(SNR_RANGE_DB.contains(&snr));
            let expected = NOISE_POWER * (1.0 + dsp::from_db(snr as f32));
            // 4096 samples of noise, and its product with the signal, scatter by about 2 %.
            assert!((power / expected - 1.0).abs() < 0.12, "{power} instead of {expected} at {snr} dB");
        }
    }
}

#[test]
fn path_loss_and_shadowing_have_the_stated_statistics() {
    // Without the demand that every receiver hears it, the residual would be the shadowing itself; the demand
    // trims the tails, so the spread is a little under the root mean square of 4 to 8 dB, which is 6.1.
    let residuals: Vec<f64> = (0..3000)
        .map(|index| draw_truth(&mut rng::stream(2, index)))
        .flat_map(|truth| {
            let mut residuals = [0.0; 3];
            for (residual, (receiver, snr)) in residuals.iter_mut().zip(RECEIVERS.iter().zip(truth.snr_db)) {
                let expected = truth.reference_snr_db - path_loss_db(truth.offset.distance_m(*receiver));
                *residual = expected - snr;
            }
            residuals
        })
        .collect();
    let mean = residuals.iter().sum::<f64>() / residuals.len() as f64;
    let spread = (residuals.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / residuals.len() as f64).sqrt();
    assert!(mean.abs() < 1.0, "mean {mean} dB");
    assert!((5.0..6.5).contains(&spread), "spread {spread} dB");
    assert!((path_loss_db(2000.0) - path_loss_db(1000.0) - 9.03).abs() < 0.01);
}

#[test]
fn the_truth_agrees_with_itself() {
    for scene in SceneSimulator::new(3).take(20) {
        let Truth { offset, position, .. } = scene.truth;
        assert!(offset.east_m.abs() <= AREA_HALF_M && offset.north_m.abs() <= AREA_HALF_M);
        let again = ORIGIN.at(offset);
        assert_eq!(again, position);
        // A degree of latitude is 111.1 km at 45°.
        assert!(((position.latitude - ORIGIN.latitude) * 111_132.0 - offset.north_m).abs() < 5.0);
    }
}

#[test]
fn bytes_are_interleaved_little_endian() {
    let scene = SceneSimulator::new(3).next_scene();
    let bytes = scene.bytes();
    assert_eq!(bytes.len(), INSTANTS * 3 * 8);
    assert_eq!(bytes[8..12], scene.samples[1].re.to_le_bytes());
    assert_eq!(bytes[12..16], scene.samples[1].im.to_le_bytes());
}
