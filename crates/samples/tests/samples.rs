//! What is refused as a frame, and with which words.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)] // a test or bench may panic

use sferic_samples::{Datatype, Samples, SamplesError};

#[test]
fn frames_that_are_no_frames() {
    assert_eq!(Samples::new(&[], Datatype::Ci8, 1).unwrap_err(), SamplesError::Empty);
    let error = Samples::new(&[0; 10], Datatype::Ci16Le, 2).unwrap_err();
    assert_eq!(
        error.to_string(),
        "10 bytes are no whole number of samples of 8 bytes (2 channels of ci16_le)"
    );
    for channels in [0, usize::MAX] {
        let error = Samples::new(&[0; 8], Datatype::Ci8, channels).unwrap_err();
        assert_eq!(error, SamplesError::Channels(channels));
        assert_eq!(error.to_string(), format!("no frame has {channels} channels"));
    }
}
