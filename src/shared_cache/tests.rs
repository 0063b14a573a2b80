use proptest::prelude::*;
use sferic_actors::outcome::{Ellipse, Label, Localization, NamedTensor, Position, Uncertainty};

use super::codec::{decode, encode};
use super::*;

fn place(latitude: f64, confidence: Option<f64>) -> Answer {
    Answer::Localization(Localization {
        position: Position { latitude, longitude: 7.6 },
        uncertainty: Uncertainty { sigma_x: 10.0, sigma_y: 20.0, theta: -30.0, confidence_interval: 0.68 },
        ellipse: Ellipse { semi_major: 30.0, semi_minor: 15.0, rotation: 60.0, area: 1413.7 },
        confidence,
        calibrated: false,
    })
}

fn answers() -> impl Strategy<Value = Answer> {
    let label = ("[a-z]{0,9}", prop::option::of(-1e9..1e9f64))
        .prop_map(|(label, score)| Label { label: label.as_str().into(), score });
    let tensor = ("[a-z]{0,9}", 0..9usize, 0..9usize).prop_map(|(name, rows, columns)| NamedTensor {
        name: name.as_str().into(),
        shape: vec![1, rows, columns],
        dtype: "int16",
        data: vec![7; 2 * rows * columns],
    });
    prop_oneof![
        (-90.0..90.0f64, prop::option::of(0.0..1.0f64))
            .prop_map(|(latitude, confidence)| place(latitude, confidence)),
        prop::collection::vec(label, 0..9).prop_map(Answer::Classification),
        prop::collection::vec(tensor, 0..4).prop_map(Answer::Tensors),
    ]
}

proptest! {
    #[test]
    fn written_answers_are_read_back_with_their_age(answer in answers(), age_ms in 0..10_000_000u64) {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_000);
        let age = Duration::from_millis(age_ms);
        let bytes = encode(&answer, now - age).unwrap();
        prop_assert_eq!(decode(&bytes, now), Some(Remembered { answer, age }));
        let ahead = decode(&bytes, now - age - Duration::from_secs(1)).unwrap();
        prop_assert_eq!(ahead.age, Duration::ZERO, "a clock that is behind the writer's");
    }

    #[test]
    fn invalid_data_is_no_answer(
        answer in answers(),
        cut in 0..40usize,
        noise in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let now = SystemTime::now();
        let bytes = encode(&answer, now).unwrap();
        prop_assert_eq!(decode(&noise, now), None);
        prop_assert_eq!(decode(&bytes[..cut.min(bytes.len() - 1)], now), None);
        // Arbitrary bytes may follow a valid head: they decode or not, but nothing panics.
        decode(&[&bytes[..12], &noise[..]].concat(), now);
    }
}

#[test]
fn a_tensor_with_inconsistent_parts_is_no_answer() {
    let tensor = |shape: &[usize], dtype, bytes| {
        let tensor = NamedTensor { name: "t".into(), shape: shape.into(), dtype, data: vec![0; bytes] };
        decode(&encode(&Answer::Tensors(vec![tensor]), SystemTime::now()).unwrap(), SystemTime::now())
            .is_some()
    };
    assert!(tensor(&[1, 3], "float32", 12));
    for (shape, dtype, bytes) in
        [(&[1, 3][..], "float32", 11), (&[2, 3], "float32", 24), (&[1, 3], "text", 12), (&[], "int8", 1)]
    {
        assert!(!tensor(shape, dtype, bytes), "{shape:?} {dtype} {bytes}");
    }
    assert!(!tensor(&[1, usize::MAX, usize::MAX], "float32", 12));
}

#[test]
fn keys_are_hexadecimal() {
    let key: CacheKey = std::array::from_fn(|index| (index * 8 + 7) as u8);
    assert_eq!(hexadecimal(&key), "070f171f272f373f474f575f676f777f878f979fa7afb7bfc7cfd7dfe7eff7ff");
}
